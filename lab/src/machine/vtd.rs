// SPDX-License-Identifier: Apache-2.0 OR MIT
//! QEMU's VT-d unit: what it is called, what it traces, where it is, and what a kernel is told to use it.

/// QEMU's name of it.
pub const DEVICE: &str = "intel-iommu";

/// Word of a kernel's command line that switches it on.
pub const COMMAND_LINE: &str = "intel_iommu=on";

/// Where q35 has its registers.
pub const REGISTERS: u64 = 0xfed9_0000;

/// A DMA was blocked.
pub const FAULT: &str = "vtd_dmar_fault";
/// One was blocked, and an entry says that nobody is to be told.
pub const HIDDEN_FAULT: &str = "vtd_fault_disabled";
/// Translation was switched.
pub const ENABLE: &str = "vtd_dmar_enable";
/// The Global Command register was written.
pub const COMMAND: &str = "vtd_reg_write_gcmd";

/// Interrupt remapping was switched.
pub const REMAPPING: &str = "vtd_ir_enable";

/// An entry of the table by which interrupts are remapped was read, for a device's request.
pub const REQUEST: &str = "vtd_ir_irte_get";

/// Its trace events that the judge reads, and two that help to understand a failure.
pub const TRACE_EVENTS: [&str; 7] = [
    FAULT,
    HIDDEN_FAULT,
    ENABLE,
    COMMAND,
    REMAPPING,
    "vtd_reg_dmar_root",
    "vtd_reg_ir_root",
];
