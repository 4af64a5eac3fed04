// SPDX-License-Identifier: GPL-2.0-only

//! Live update orchestrator: handlers of files that survive a kexec, and data that goes with them.
//!
//! C header: [`include/linux/liveupdate.h`](srctree/include/linux/liveupdate.h)
//!
//! A handler or a piece of file-lifecycle-bound data is a type that implements [`FileHandler`] or
//! [`Flb`], and a `static` [`FileHandlerObject`] or [`FlbObject`] of that type, which is registered
//! once and for ever.

use crate::{
    bindings,
    error::{
        code::*,
        from_result,
        to_result,
        Result, //
    },
    fs::File,
    prelude::*,
    sync::aref::ARef,
    types::{
        ForeignOwnable,
        Opaque, //
    }, //
};
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};

/// Copies a name into the array that C has for it. Fails the build if it does not fit.
const fn compatible<const N: usize>(name: &CStr) -> [c_char; N] {
    let bytes = name.to_bytes_with_nul();
    let mut array = [0; N];
    let mut index = 0;

    assert!(bytes.len() <= N);
    while index < bytes.len() {
        // CAST: Names are ASCII.
        array[index] = bytes[index] as c_char;
        index += 1;
    }
    array
}

/// What a handler is given to preserve a file.
///
/// # Invariants
///
/// `args` are the arguments of a `preserve` callback that is running; `args.file` is valid.
pub struct PreserveArgs<'a> {
    args: &'a bindings::liveupdate_file_op_args,
}

/// A file that is preserved in the same session.
#[derive(Clone, Copy)]
pub struct Sibling {
    /// The token that the user gave it.
    pub token: u64,
    /// Its handler's data.
    pub data: u64,
}

impl<'a> PreserveArgs<'a> {
    /// The file to preserve.
    pub fn file(&self) -> &'a File {
        // SAFETY: By the type invariant the file is valid, LUO holds a reference to it, and it came
        // from `fget()`, so no light reference with an unlocked position is involved.
        unsafe { File::from_raw_file(self.args.file) }
    }

    /// Looks for another file in the session of this one. `None`: it is not preserved there.
    ///
    /// A file is known by what its own handler knows it by: another descriptor of the same memory is
    /// the same.
    pub fn token_outgoing(&self, file: &File) -> Result<Option<Sibling>> {
        let (mut token, mut data) = (0, 0);

        // SAFETY: The arguments are those of a running `preserve` callback by the type invariant,
        // `file` is valid, and the results are written before the call returns.
        let ret = unsafe {
            bindings::liveupdate_get_token_outgoing(self.args, file.as_ptr(), &mut token, &mut data)
        };
        match to_result(ret) {
            Ok(()) => Ok(Some(Sibling { token, data })),
            Err(error) if error == ENOENT => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The files of a session that a file is being retrieved from.
///
/// # Invariants
///
/// `args` are the arguments of a `retrieve` callback that is running.
pub struct IncomingFiles<'a> {
    args: &'a bindings::liveupdate_file_op_args,
}

impl IncomingFiles<'_> {
    /// # Safety
    ///
    /// `args` must be those of a `retrieve` callback that is running and does not return before the
    /// value is gone.
    pub unsafe fn from_raw(args: *const bindings::liveupdate_file_op_args) -> Self {
        // SAFETY: By the safety requirement.
        let args = unsafe { &*args };
        // INVARIANT: By the safety requirement.
        Self { args }
    }

    /// The data of all files that the handler `T` preserved in the session.
    pub fn data_of<T: FileHandler>(&self) -> impl Iterator<Item = u64> + '_ {
        let mut index = 0;
        core::iter::from_fn(move || {
            let mut data = 0;
            // SAFETY: The arguments are those of a running `retrieve` callback by the type
            // invariant, and the results are written before the call returns.
            let found = unsafe {
                bindings::liveupdate_next_data_incoming(
                    self.args,
                    T::COMPATIBLE.as_char_ptr(),
                    &mut index,
                    &mut data,
                )
            };
            found.then_some(data)
        })
    }
}

/// A handler of files that survive a kexec.
///
/// All functions may sleep.
pub trait FileHandler: Sized + Sync + 'static {
    /// Name of the handler and of the format of its data.
    const COMPATIBLE: &'static CStr;

    /// What the handler keeps for a preserved file until it is unpreserved.
    type Outgoing: ForeignOwnable + Send;

    /// Is `file` one for this handler?
    fn can_preserve(file: &File) -> bool;

    /// Preserves a file. The first value is the handler's data for the next kernel.
    fn preserve(args: &PreserveArgs<'_>) -> Result<(u64, Self::Outgoing)>;

    /// Undo of [`Self::preserve`].
    fn unpreserve(file: &File, outgoing: Self::Outgoing);

    /// Last check before the jump. An error calls the kexec off, and has left nothing behind.
    fn freeze(
        freeze: &Freeze<'_>,
        file: &File,
        outgoing: <Self::Outgoing as ForeignOwnable>::BorrowedMut<'_>,
    ) -> Result;

    /// Undo of [`Self::freeze`]: another file has called the kexec off.
    fn unfreeze(file: &File, outgoing: <Self::Outgoing as ForeignOwnable>::BorrowedMut<'_>);

    /// Makes the file again that the previous kernel preserved with `data`.
    fn retrieve(data: u64) -> Result<ARef<File>>;

    /// May the file be finished? `file` is the retrieved one, `None` if that has not been done.
    fn can_finish(data: u64, file: Option<&File>) -> bool;

    /// The file is finished.
    fn finish(data: u64, file: Option<&File>);
}

/// The machine is about to jump into the next kernel.
///
/// # Invariants
///
/// A `freeze` callback is running. LUO makes these calls in `liveupdate_reboot()`, which `kernel_kexec()`
/// calls with the lock held that keeps the loaded image from changing.
pub struct Freeze<'a>(PhantomData<&'a ()>);

/// A handler that has been registered.
pub struct Registered<T: 'static>(&'static FileHandlerObject<T>);

/// The object that LUO knows a [`FileHandler`] by.
pub struct FileHandlerObject<T> {
    inner: Opaque<bindings::liveupdate_file_handler>,
    _type: PhantomData<T>,
}

// SAFETY: The C object is changed by LUO only, under LUO's locks.
unsafe impl<T> Sync for FileHandlerObject<T> {}

impl<T: FileHandler> Default for FileHandlerObject<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: FileHandler> FileHandlerObject<T> {
    /// Makes an object that is not registered.
    pub const fn new() -> Self {
        let mut inner: bindings::liveupdate_file_handler = pin_init::zeroed();
        inner.ops = &FileVtable::<T>::OPS;
        inner.compatible = compatible(T::COMPATIBLE);
        Self {
            inner: Opaque::new(inner),
            _type: PhantomData,
        }
    }

    /// Registers the handler, for ever.
    pub fn register(&'static self) -> Result<Registered<T>> {
        // SAFETY: The object lives for ever and does not move. A second registration is refused
        // because of the name, before anything is changed.
        to_result(unsafe { bindings::liveupdate_register_file_handler(self.inner.get()) })?;
        Ok(Registered(self))
    }
}

/// The functions C calls for a [`FileHandler`].
struct FileVtable<T>(PhantomData<T>);

impl<T: FileHandler> FileVtable<T> {
    const OPS: bindings::liveupdate_file_ops = bindings::liveupdate_file_ops {
        can_preserve: Some(Self::can_preserve),
        preserve: Some(Self::preserve),
        unpreserve: Some(Self::unpreserve),
        freeze: Some(Self::freeze),
        unfreeze: Some(Self::unfreeze),
        retrieve: Some(Self::retrieve),
        can_finish: Some(Self::can_finish),
        finish: Some(Self::finish),
        get_id: None,
        owner: core::ptr::null_mut(),
    };

    /// # Safety
    ///
    /// `file` must be valid for the call.
    unsafe extern "C" fn can_preserve(
        _handler: *mut bindings::liveupdate_file_handler,
        file: *mut bindings::file,
    ) -> bool {
        // SAFETY: The caller holds a reference that came from `fget()`.
        T::can_preserve(unsafe { File::from_raw_file(file) })
    }

    /// # Safety
    ///
    /// `args` must be those of a `preserve` callback.
    unsafe extern "C" fn preserve(args: *mut bindings::liveupdate_file_op_args) -> c_int {
        from_result(|| {
            let (data, outgoing) = {
                // SAFETY: The caller lends the arguments for the call, and nobody writes to them
                // while this reference exists.
                let args = unsafe { &*args };
                // INVARIANT: By the safety requirement.
                T::preserve(&PreserveArgs { args })?
            };
            // SAFETY: The caller lends the arguments for the call.
            let args = unsafe { &mut *args };
            args.serialized_data = data;
            args.private_data = outgoing.into_foreign();
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// `args` must be those of an `unpreserve` callback for a file that `preserve` succeeded for.
    unsafe extern "C" fn unpreserve(args: *mut bindings::liveupdate_file_op_args) {
        // SAFETY: The caller lends the arguments for the call.
        let args = unsafe { &*args };
        // SAFETY: LUO holds a reference that came from `fget()`.
        let file = unsafe { File::from_raw_file(args.file) };
        // SAFETY: The pointer came from `into_foreign()` in `preserve`, and LUO calls this once.
        let outgoing = unsafe { T::Outgoing::from_foreign(args.private_data) };

        T::unpreserve(file, outgoing);
    }

    /// # Safety
    ///
    /// `args` must be those of a `freeze` callback for a file that `preserve` succeeded for.
    unsafe extern "C" fn freeze(args: *mut bindings::liveupdate_file_op_args) -> c_int {
        from_result(|| {
            // SAFETY: The caller lends the arguments for the call.
            let args = unsafe { &*args };
            // SAFETY: LUO holds a reference that came from `fget()`.
            let file = unsafe { File::from_raw_file(args.file) };
            // SAFETY: The pointer came from `into_foreign()` in `preserve`, and the value is nobody else's
            // until this returns: LUO holds the session's mutex whenever it preserves, freezes or
            // unpreserves one of its files.
            let outgoing = unsafe { T::Outgoing::borrow_mut(args.private_data) };

            // INVARIANT: By the safety requirement a `freeze` callback is running.
            let freeze = Freeze(PhantomData);
            T::freeze(&freeze, file, outgoing)?;
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// `args` must be those of an `unfreeze` callback for a file that `freeze` succeeded for.
    unsafe extern "C" fn unfreeze(args: *mut bindings::liveupdate_file_op_args) {
        // SAFETY: The caller lends the arguments for the call.
        let args = unsafe { &*args };
        // SAFETY: LUO holds a reference that came from `fget()`.
        let file = unsafe { File::from_raw_file(args.file) };
        // SAFETY: As in `freeze()`.
        let outgoing = unsafe { T::Outgoing::borrow_mut(args.private_data) };

        T::unfreeze(file, outgoing);
    }

    /// # Safety
    ///
    /// `args` must be those of a `retrieve` callback.
    unsafe extern "C" fn retrieve(args: *mut bindings::liveupdate_file_op_args) -> c_int {
        from_result(|| {
            // SAFETY: The caller lends the arguments for the call.
            let args = unsafe { &mut *args };
            let file = T::retrieve(args.serialized_data)?;
            // The reference goes to the caller.
            args.file = ARef::into_raw(file).cast().as_ptr();
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// `args` must be those of a `can_finish` callback.
    unsafe extern "C" fn can_finish(args: *mut bindings::liveupdate_file_op_args) -> bool {
        // SAFETY: The caller lends the arguments for the call.
        let args = unsafe { &*args };
        // SAFETY: The same arguments.
        let file = unsafe { Self::retrieved(args) };

        T::can_finish(args.serialized_data, file)
    }

    /// # Safety
    ///
    /// `args` must be those of a `finish` callback.
    unsafe extern "C" fn finish(args: *mut bindings::liveupdate_file_op_args) {
        // SAFETY: The caller lends the arguments for the call.
        let args = unsafe { &*args };
        // SAFETY: The same arguments.
        let file = unsafe { Self::retrieved(args) };

        T::finish(args.serialized_data, file);
    }

    /// # Safety
    ///
    /// `args` must be those of a `can_finish` or `finish` callback.
    unsafe fn retrieved(args: &bindings::liveupdate_file_op_args) -> Option<&File> {
        if args.retrieve_status <= 0 {
            return None;
        }
        let file = NonNull::new(args.file)?;
        // SAFETY: A retrieved file is valid: LUO holds a reference to it until it is finished.
        Some(unsafe { File::from_raw_file(file.as_ptr()) })
    }
}

/// Data that lives as long as there is a file that depends on it.
///
/// All functions may sleep.
pub trait Flb: Sized + Sync + 'static {
    /// Name of the data and of its format.
    const COMPATIBLE: &'static CStr;

    /// The first file is about to be preserved. Returns the data for the next kernel.
    fn preserve() -> Result<u64>;

    /// The last file has been unpreserved.
    fn unpreserve(data: u64);

    /// The data of the previous kernel is asked for the first time.
    ///
    /// There is no way to fail: LUO warns if data that could not be retrieved is finished. Whoever
    /// refuses the data keeps that in mind and answers accordingly.
    fn retrieve(data: u64);

    /// The last file of the previous kernel has been finished.
    fn finish();
}

/// The object that LUO knows an [`Flb`] by.
pub struct FlbObject<T> {
    inner: Opaque<bindings::liveupdate_flb>,
    _type: PhantomData<T>,
}

// SAFETY: The C object is changed by LUO only, under LUO's locks.
unsafe impl<T> Sync for FlbObject<T> {}

impl<T: Flb> Default for FlbObject<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Flb> FlbObject<T> {
    /// Makes an object that is not registered.
    pub const fn new() -> Self {
        let mut inner: bindings::liveupdate_flb = pin_init::zeroed();
        inner.ops = &FlbVtable::<T>::OPS;
        inner.compatible = compatible(T::COMPATIBLE);
        Self {
            inner: Opaque::new(inner),
            _type: PhantomData,
        }
    }

    /// Makes the files of a registered handler depend on the data, for ever.
    pub fn register<H: FileHandler>(&'static self, handler: &Registered<H>) -> Result {
        // SAFETY: Both objects live for ever and do not move, and the handler is registered. C refuses
        // one that depends on the data already.
        to_result(unsafe {
            bindings::liveupdate_register_flb(handler.0.inner.get(), self.inner.get())
        })
    }

    /// Has [`Flb::retrieve`] called if the previous kernel left data and that has not been done yet.
    ///
    /// Says whether there is data.
    pub fn fetch_incoming(&'static self) -> Result<bool> {
        let mut object = core::ptr::null_mut();

        // SAFETY: The object lives for ever; the result is written before the call returns.
        let ret = unsafe { bindings::liveupdate_flb_get_incoming(self.inner.get(), &mut object) };
        match to_result(ret) {
            Ok(()) => {}
            Err(error) if error == ENOENT || error == ENODATA => return Ok(false),
            Err(error) => return Err(error),
        }
        // The count of files goes back to what the previous kernel said.
        // SAFETY: The reference was taken above.
        unsafe { bindings::liveupdate_flb_put_incoming(self.inner.get()) };
        Ok(true)
    }
}

/// The functions C calls for an [`Flb`].
struct FlbVtable<T>(PhantomData<T>);

impl<T: Flb> FlbVtable<T> {
    const OPS: bindings::liveupdate_flb_ops = bindings::liveupdate_flb_ops {
        preserve: Some(Self::preserve),
        unpreserve: Some(Self::unpreserve),
        retrieve: Some(Self::retrieve),
        finish: Some(Self::finish),
        owner: core::ptr::null_mut(),
    };

    /// # Safety
    ///
    /// `args` must be those of a `preserve` callback.
    unsafe extern "C" fn preserve(args: *mut bindings::liveupdate_flb_op_args) -> c_int {
        from_result(|| {
            let data = T::preserve()?;
            // SAFETY: The caller lends the arguments for the call.
            let args = unsafe { &mut *args };
            args.data = data;
            // Anything but NULL will do: the state belongs to `T`.
            args.obj = args.flb.cast();
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// `args` must be those of an `unpreserve` callback.
    unsafe extern "C" fn unpreserve(args: *mut bindings::liveupdate_flb_op_args) {
        // SAFETY: The caller lends the arguments for the call.
        T::unpreserve(unsafe { (*args).data });
    }

    /// # Safety
    ///
    /// `args` must be those of a `retrieve` callback.
    unsafe extern "C" fn retrieve(args: *mut bindings::liveupdate_flb_op_args) -> c_int {
        // SAFETY: The caller lends the arguments for the call.
        let args = unsafe { &mut *args };
        T::retrieve(args.data);
        args.obj = args.flb.cast();
        0
    }

    /// # Safety
    ///
    /// `args` must be those of a `finish` callback.
    unsafe extern "C" fn finish(_args: *mut bindings::liveupdate_flb_op_args) {
        T::finish();
    }
}
