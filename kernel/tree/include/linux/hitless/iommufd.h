/* SPDX-License-Identifier: GPL-2.0-only */
/* hitless: what iommufd asks, and what glue asks of it. */
#ifndef _LINUX_HITLESS_IOMMUFD_H
#define _LINUX_HITLESS_IOMMUFD_H

#include <linux/hitless/iommu.h>
#include <linux/types.h>

struct file;
struct iommu_hwpt_liveupdate_mapping;
struct iommufd_device;

/* Facts about a HWPT that has been marked. */
enum {
	/* Switched on, not only possible. */
	HITLESS_HWPT_DIRTY_TRACKING = 1 << 0,
	HITLESS_HWPT_NEST_PARENT = 1 << 1,
	HITLESS_HWPT_FAULT = 1 << 2,
	HITLESS_HWPT_PASID = 1 << 3,
	HITLESS_HWPT_AUTO = 1 << 4,
	/* The domain is not one whose tables can be described. */
	HITLESS_HWPT_UNKNOWN_TABLE = 1 << 5,
};

/**
 * struct hitless_hwpt - a HWPT marked for preservation
 * @token: the user's token
 * @id: iommufd object id
 * @facts: HITLESS_HWPT_*
 * @table: its page table
 */
struct hitless_hwpt {
	u64 token;
	u32 id;
	u32 facts;
	struct hitless_table table;
};

/* Facts about the memory behind a mapping. */
enum {
	HITLESS_MEMORY_NO_FILE = 1 << 0,
	HITLESS_MEMORY_DMABUF = 1 << 1,
	/* It is a file, but not one of shmem. */
	HITLESS_MEMORY_NOT_SHMEM = 1 << 2,
	/* Folios were taken out of the file (a hole) after it was mapped. */
	HITLESS_MEMORY_HOLES = 1 << 3,
	/* The mapping is still being made or taken down. */
	HITLESS_MEMORY_UNSETTLED = 1 << 4,
	HITLESS_MEMORY_READABLE = 1 << 5,
	HITLESS_MEMORY_WRITEABLE = 1 << 6,
};

/**
 * struct hitless_mapping - one mapping of an IOAS
 * @iova: its first address
 * @length: its length in bytes
 * @offset: where it begins in the file
 * @file: the file, borrowed; NULL if there is none
 * @facts: HITLESS_MEMORY_*
 * @reserved: 0
 */
struct hitless_mapping {
	u64 iova;
	u64 length;
	u64 offset;
	struct file *file;
	u32 facts;
	u32 reserved;
};

/* How a device binds to an iommufd. */
enum hitless_bind {
	HITLESS_BIND_ORDINARY,	/* it is an ordinary device */
	HITLESS_BIND_RESTORED,	/* it is taken over with its HWPT */
	HITLESS_BIND_ANEW,	/* it is taken over without (tests only) */
};

#ifdef CONFIG_HITLESS

/**
 * hitless_iommufd_features() - what this kernel can do for an iommufd
 *
 * Context: Any.
 * Return: IOMMU_LIVEUPDATE_FEATURE_*; 0: nothing can be preserved.
 */
u64 hitless_iommufd_features(void);

/**
 * hitless_iommufd_restore() - the domain of a HWPT of an incoming iommufd
 * @iommufd: the iommufd's key
 * @token: the HWPT's token
 * @domain: the key of its domain
 *
 * Context: May sleep.
 * Return: 0 and *@domain, or -ENOENT.
 */
int hitless_iommufd_restore(u64 iommufd, u64 token, u64 *domain);

/**
 * hitless_iommufd_mappings() - what a HWPT of an incoming iommufd maps
 * @iommufd: the iommufd's key
 * @token: the HWPT's token
 * @index: number of the first mapping that is wanted, in the order of IOVAs
 * @out: room for them
 * @room: how many fit in
 * @total: how many there are in all
 *
 * Context: May sleep.
 * Return: how many were written, or -ENOENT.
 */
int hitless_iommufd_mappings(u64 iommufd, u64 token, u64 index,
			     struct iommu_hwpt_liveupdate_mapping *out,
			     u32 room, u64 *total);

/**
 * hitless_iommufd_binds() - how does a device bind to an iommufd?
 * @iommufd: the iommufd's key, 0: it was not retrieved
 * @segment: PCI segment
 * @bdf: bus, device and function
 * @token: the token of the HWPT that the device runs on
 *
 * Context: The iommufd group's lock is held. May sleep.
 * Return: enum hitless_bind, with *@token unless it is ordinary; -EPERM if this
 * is not the device's iommufd.
 */
int hitless_iommufd_binds(u64 iommufd, u32 segment, u16 bdf, u64 *token);

/**
 * hitless_seam_iommufd_is() - is a file an iommufd?
 * @file: any file
 *
 * Context: Any.
 * Return: true if it is, which the functions below rely on.
 */
bool hitless_seam_iommufd_is(struct file *file);

/**
 * hitless_seam_iommufd_freeze() - make the IOASes of marked HWPTs immutable
 * @file: an iommufd
 *
 * Context: May sleep.
 */
void hitless_seam_iommufd_freeze(struct file *file);

/**
 * hitless_seam_iommufd_unfreeze() - undo of hitless_seam_iommufd_freeze()
 * @file: an iommufd that was frozen
 *
 * Context: May sleep.
 */
void hitless_seam_iommufd_unfreeze(struct file *file);

/**
 * hitless_seam_iommufd_next_hwpt() - the next marked HWPT of a frozen iommufd
 * @file: the iommufd
 * @id: the object id from which on to look
 * @out: the HWPT
 *
 * Context: May sleep.
 * Return: true and *@out if there is one.
 */
bool hitless_seam_iommufd_next_hwpt(struct file *file, u32 id,
				    struct hitless_hwpt *out);

/**
 * hitless_seam_iommufd_next_mapping() - the next mapping of a marked HWPT
 * @file: the iommufd, frozen
 * @hwpt_id: the HWPT's object id
 * @iova: the address from which on to look
 * @out: the mapping
 *
 * Context: May sleep.
 * Return: true and *@out if there is one.
 */
bool hitless_seam_iommufd_next_mapping(struct file *file, u32 hwpt_id, u64 iova,
				       struct hitless_mapping *out);

/**
 * hitless_seam_iommufd_create() - make an iommufd that carries a key
 * @key: the key
 * @file: the new file
 *
 * Context: May sleep.
 * Return: 0 and *@file, or -errno.
 */
int hitless_seam_iommufd_create(u64 key, struct file **file);

/**
 * hitless_seam_iommufd_file() - the iommufd that a device is bound to
 * @idev: the device
 *
 * Context: The caller keeps the device bound.
 * Return: its file, borrowed.
 */
struct file *hitless_seam_iommufd_file(struct iommufd_device *idev);

/**
 * hitless_seam_iommufd_attached() - what a device is attached to
 * @idev: the device
 * @token: the token of its HWPT, if that is marked
 *
 * Context: The caller keeps the device bound. May sleep.
 * Return: HITLESS_VFIO_* about the HWPT; 0: it is marked.
 */
u32 hitless_seam_iommufd_attached(struct iommufd_device *idev, u64 *token);

#endif /* CONFIG_HITLESS */

#endif /* _LINUX_HITLESS_IOMMUFD_H */
