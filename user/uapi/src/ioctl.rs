// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The one place where an ioctl is made.
#![expect(unsafe_code, reason = "an ioctl hands the kernel a pointer")]

use std::ffi::c_void;
use std::os::fd::AsFd;

use rustix::ioctl::{Ioctl, IoctlOutput, Opcode};

use crate::error::{Error, Result};

/// A structure that is some ioctl's argument.
///
/// # Safety
///
/// The kernel takes a pointer to this structure for the ioctl `NUMBER`, and reads and writes nothing but its
/// `size_of::<Self>()` bytes, and memory that pointers in it lead to when they are not null. Every bit pattern the
/// kernel may write is a valid `Self`.
pub(crate) unsafe trait Argument {
    /// The ioctl's number.
    const NUMBER: Opcode;
    /// The ioctl's C name.
    const NAME: &'static str;
}

/// Says for each structure which command of one type of ioctls it is the argument of, and the command's C name.
///
/// Whoever writes the `unsafe` promises the contract of [`Argument`] for every row.
macro_rules! arguments {
    (unsafe $kind:expr; $($structure:ty, $command:expr, $name:literal;)*) => {$(
        // SAFETY: promised, with reasons, where the rows are.
        unsafe impl $crate::ioctl::Argument for $structure {
            const NUMBER: rustix::ioctl::Opcode = rustix::ioctl::opcode::none($kind, $command);
            const NAME: &'static str = $name;
        }
    )*};
}
pub(crate) use arguments;

/// `size_of`, as the ioctls' first field wants it.
pub(crate) const fn size_of<T>() -> u32 {
    // CAST: the structures have at most a few hundred bytes.
    std::mem::size_of::<T>() as u32
}

struct Call<'a, A>(&'a mut A);

// SAFETY: the pointer is that of an exclusively borrowed `A`, so valid and aligned for the call, and `Argument`'s
// contract says that the kernel stays within it for this opcode.
unsafe impl<A: Argument> Ioctl for Call<'_, A> {
    type Output = ();

    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        A::NUMBER
    }

    fn as_ptr(&mut self) -> *mut c_void {
        std::ptr::from_mut(self.0).cast()
    }

    unsafe fn output_from_ptr(_: IoctlOutput, _: *mut c_void) -> rustix::io::Result<()> {
        Ok(())
    }
}

/// Makes the call.
pub(crate) fn call<A: Argument>(fd: impl AsFd, argument: &mut A) -> Result<()> {
    // SAFETY: `Argument`'s contract is what `ioctl` asks for: the opcode and the pointed-to structure belong
    // together. A descriptor of another kind answers ENOTTY: the numbers tell the interfaces apart (VFIO and iommufd
    // share the type byte and no command, see the test in `layouts`).
    unsafe { rustix::ioctl::ioctl(fd, Call(argument)) }.map_err(|errno| Error::new(A::NAME, errno))
}
