// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Interrupts are taken down before an update and set up after it.

use std::os::fd::AsFd;

use hitless_uapi::eventfd::signal;
use hitless_uapi::vfio::Irq;
use hitless_uapi::VfioDevice;

/// Sets up interrupts, and signals each eventfd once: what the device wanted to signal while they were down is lost. A
/// driver looks after its device once more than it has to, which it does anyway where interrupts are shared.
pub(crate) fn arm<F: AsFd>(
    device: &VfioDevice,
    kind: Irq,
    eventfds: &[Option<F>],
) -> hitless_uapi::Result<()> {
    let all: Vec<_> = eventfds
        .iter()
        .map(|eventfd| eventfd.as_ref().map(AsFd::as_fd))
        .collect();
    device.set_irqs(kind, &all)?;
    all.into_iter().flatten().try_for_each(signal)
}
