// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A device that goes through an update, and nothing else: what a VMM does around `hitless_vmm`.
//!
//! ```console
//! # kexec -s -l /boot/vmlinuz --initrd=/boot/initrd.img --reuse-cmdline
//! # handover before 0000:01:00.0      # the device is bound to vfio-pci; this jumps
//! # handover after                    # in the new kernel, with vfio-pci bound to the device again
//! ```

use std::error::Error;

use hitless_uapi::vfio::Irq;
use hitless_uapi::{Iommufd, LiveUpdate, Memfd, VfioDevice};
use hitless_vmm::{Collected, Incoming, Mapping, Rights};
use rustix::event::{eventfd, EventfdFlags};

/// The session, and the memory's size in bytes.
const SESSION: &str = "handover";
const SIZE: u64 = 16 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["before", bdf] => before(bdf),
        ["after"] => after(),
        _ => Err("say `before BDF` or `after`".into()),
    }
}

/// In the old kernel.
fn before(bdf: &str) -> Result<(), Box<dyn Error>> {
    // What a VMM has anyway. The seals come before the mapping, and the HWPT has an allocation of its own.
    let memfd = Memfd::create("ram", SIZE)?;
    memfd.seal()?;
    let nic = VfioDevice::open(bdf)?;
    let iommufd = Iommufd::open()?;
    let id = nic.bind_iommufd(&iommufd)?;
    let ioas = iommufd.ioas_alloc()?;
    iommufd.map_file(ioas, &memfd, 0, SIZE, 0)?;
    let hwpt = iommufd.hwpt_alloc(id, ioas)?;
    nic.attach_pt(hwpt)?;
    let signal = [Some(eventfd(0, EventfdFlags::CLOEXEC)?)];
    nic.set_irqs(
        Irq::Msix,
        &[signal[0].as_ref().map(std::os::fd::AsFd::as_fd)],
    )?;

    let ram = Mapping {
        iova: 0,
        length: SIZE,
        memory: "ram".into(),
        offset: 0,
        rights: Rights::ReadWrite,
    };
    let vm = Collected::new(SESSION)
        .memory("ram", &memfd)?
        .iommufd("iommu", &iommufd)?
        .hwpt("dma", "iommu", hwpt)?
        .mapping("dma", ram)?
        .device("nic", &nic, "dma")?
        .interrupts("nic", Irq::Msix, &signal)?
        .state(b"whatever the VMM has to remember".to_vec())?;
    let preserved = vm.preserve(&LiveUpdate::open()?)?;
    let refused = preserved.jump();
    preserved.undo()?;
    Err(refused.into())
}

/// In the new kernel.
fn after() -> Result<(), Box<dyn Error>> {
    let vm = Incoming::find(&LiveUpdate::open()?, SESSION)?
        .retrieve()?
        .bind()?;
    println!("state: {}", String::from_utf8_lossy(vm.state()));
    let vm = vm.rebuild()?.swap()?;
    if let Some(had) = vm.interrupts("nic")? {
        let signals = (0..had.vectors).map(|_| eventfd(0, EventfdFlags::CLOEXEC).map(Some));
        vm.arm("nic", had.kind, &signals.collect::<Result<Vec<_>, _>>()?)?;
    }
    let running = vm.finish()?;
    println!("the device runs on {:?}", running.built("dma")?);
    // From here on the descriptors of `running` are what a VMM works with, until it preserves `running.again()`.
    Ok(())
}
