/* SPDX-License-Identifier: GPL-2.0-only */
/* hitless: what glue asks of VFIO device files (cdevs) of vfio-pci. */
#ifndef _LINUX_HITLESS_VFIO_H
#define _LINUX_HITLESS_VFIO_H

#include <linux/hitless/iommu.h>
#include <linux/hitless/pci.h>
#include <linux/types.h>

struct file;
struct vfio_device;
struct vfio_pci_core_device;

/* Facts about a device behind a VFIO device file. */
enum {
	HITLESS_VFIO_NO_IOMMUFD = 1 << 0,
	HITLESS_VFIO_NOT_ATTACHED = 1 << 1,
	/* Attached to something else than a HWPT marked with a token. */
	HITLESS_VFIO_NOT_MARKED = 1 << 2,
	HITLESS_VFIO_VIRTFN = 1 << 3,
	HITLESS_VFIO_HAS_VFS = 1 << 4,
	HITLESS_VFIO_PASIDS = 1 << 5,
	/* The IOMMU group has other members, or the device has DMA aliases. */
	HITLESS_VFIO_SHARED_GROUP = 1 << 6,
	HITLESS_VFIO_NOT_D0 = 1 << 7,
	/* No unit translates for it whose driver knows hitless. */
	HITLESS_VFIO_UNKNOWN_UNIT = 1 << 8,
	HITLESS_VFIO_INTERRUPTS = 1 << 9,
	/* Still attached to its restored domain: swap first. */
	HITLESS_VFIO_RESTORED = 1 << 10,
	/* The device's own translation cache (ATS) is on. */
	HITLESS_VFIO_ATS = 1 << 11,
	/* It has no IOMMU group: nothing translates for it. */
	HITLESS_VFIO_NO_GROUP = 1 << 12,
};

/**
 * struct hitless_vfio - a device behind a VFIO device file
 * @iommufd: the iommufd it is bound to; borrowed, valid while the caller holds
 *	the VFIO file; NULL if none
 * @hwpt_token: token of the HWPT it is attached to
 * @facts: HITLESS_VFIO_*
 * @segment: PCI segment
 * @bdf: bus, device and function
 * @reserved: 0
 * @unit: its IOMMU unit
 * @attachment: its attachment
 */
struct hitless_vfio {
	struct file *iommufd;
	u64 hwpt_token;
	u32 facts;
	u32 segment;
	u16 bdf;
	u16 reserved[3];
	struct hitless_unit unit;
	struct hitless_attachment attachment;
};

#ifdef CONFIG_HITLESS

/**
 * hitless_seam_vfio_is() - is a file a bound device file of vfio-pci?
 * @file: any file
 *
 * Context: Any.
 * Return: true if it is, which the functions below rely on.
 */
bool hitless_seam_vfio_is(struct file *file);

/**
 * hitless_seam_vfio_describe() - facts about the device behind a device file
 * @file: the device file
 * @out: the facts
 *
 * Context: May sleep.
 * Return: 0 and *@out, or -EINVAL.
 */
int hitless_seam_vfio_describe(struct file *file, struct hitless_vfio *out);

/**
 * hitless_seam_vfio_bridge() - a bridge above the device
 * @file: the device file
 * @index: which one, 0 is the nearest
 *
 * Context: May sleep.
 * Return: bus, device and function of the bridge, or -1.
 */
int hitless_seam_vfio_bridge(struct file *file, u32 index);

/**
 * hitless_seam_vfio_create() - make a file for a device that arrived running
 * @segment: PCI segment
 * @bdf: bus, device and function
 * @file: the new file
 *
 * Context: May sleep.
 * Return: 0 and *@file; -ENODEV: there is no such device, or vfio-pci has not
 * been bound to it yet.
 */
int hitless_seam_vfio_create(u32 segment, u16 bdf, struct file **file);

/**
 * hitless_seam_vfio_is_bound() - has a device file been bound to an iommufd?
 * @file: any file
 *
 * Context: Any.
 * Return: true if it is a device file and has been.
 */
bool hitless_seam_vfio_is_bound(struct file *file);

/**
 * hitless_seam_vfio_open() - open a device as if its cdev was opened
 * @device: the device
 *
 * The one way to open a device that has been kept running.
 *
 * Context: May sleep.
 * Return: the new file, or an error pointer.
 */
struct file *hitless_seam_vfio_open(struct vfio_device *device);

/**
 * hitless_seam_vfio_device() - the device behind a device file
 * @file: any file
 *
 * Context: Any.
 * Return: the device, if it is a cdev file that has been bound, else NULL.
 */
struct vfio_device *hitless_seam_vfio_device(struct file *file);

/**
 * hitless_seam_vfio_take_over() - open a device of vfio-pci that is running
 * @vdev: the device
 *
 * Nothing is reset, and nothing is written that the device would notice.
 *
 * Context: From vfio_pci_core_enable(). May sleep.
 */
void hitless_seam_vfio_take_over(struct vfio_pci_core_device *vdev);

#else /* CONFIG_HITLESS */

static inline void
hitless_seam_vfio_take_over(struct vfio_pci_core_device *vdev) { }

#endif /* CONFIG_HITLESS */

#endif /* _LINUX_HITLESS_VFIO_H */
