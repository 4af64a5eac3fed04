/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * hitless: passthrough devices keep running while the kernel beneath them is
 * replaced. This header is the whole contract between the C subsystems (seams)
 * and the Rust part (glue), in both directions:
 *
 *  - hitless_*() are asked or told by seams; glue implements them
 *    (drivers/hitless/entry.rs) and decides.
 *  - hitless_seam_*() are called by glue; seam files beside the subsystem's
 *    private headers implement them. They report facts or carry out one step
 *    and decide nothing.
 *
 * Only plain values cross: no serialized record is ever seen by C.
 */
#ifndef _LINUX_HITLESS_H
#define _LINUX_HITLESS_H

#include <linux/bits.h>
#include <linux/errno.h>
#include <linux/pci.h>
#include <linux/types.h>

struct device;
struct file;
struct iommu_domain;
struct iommufd_ctx;
struct iommufd_device;
struct vfio_device;
struct vfio_pci_core_device;
struct liveupdate_file_op_args;

/* Formats of a page table, as in the records. */
#define HITLESS_TABLE_SECOND_STAGE	1
#define HITLESS_TABLE_FIRST_STAGE	2

/* Most bridges above a device, HWPTs of an iommufd, files behind an IOAS. */
#define HITLESS_MAX_BRIDGES		16
#define HITLESS_MAX_HWPTS		16
#define HITLESS_MAX_FILES		16

/**
 * struct hitless_unit - a VT-d unit as it is now
 * @register_base: physical address of the register set; names the unit
 * @root_table: physical address of the root table in software's hands, 0 if
 *	there is none yet
 * @live_root: the Root Table Address Register as the hardware has it
 * @capability: Capability Register
 * @extended_capability: Extended Capability Register
 * @scalable: the unit is used in scalable mode
 * @translating: translation is on (GSTS.TES)
 * @segment: PCI segment of the devices that it translates for
 */
struct hitless_unit {
	u64 register_base;
	u64 root_table;
	u64 live_root;
	u64 capability;
	u64 extended_capability;
	u32 scalable;
	u32 translating;
	u32 segment;
	u32 reserved;
};

/**
 * struct hitless_table - the page table of an IOMMU domain
 * @top: physical address of the top table
 * @format: HITLESS_TABLE_*
 * @levels: number of levels, 3 to 5
 * @incoherent: hardware does not snoop the tables
 * @snoop: snooping of the domain's accesses is forced
 */
struct hitless_table {
	u64 top;
	u32 format;
	u32 levels;
	u32 incoherent;
	u32 snoop;
};

/**
 * struct hitless_attachment - how a device is attached to its domain
 * @register_base: the unit that translates for the device
 * @context_table: physical address of the context table with its entry
 * @pasid_directory: physical address of the PASID directory, 0 in legacy mode
 * @pasid_table: physical address of the PASID table with entry 0, 0 in legacy
 *	mode
 * @domain: glue's key of the restored domain (incoming only)
 * @segment: PCI segment
 * @max_pasid: number of PASIDs the directory has room for
 * @bdf: bus, device and function
 * @domain_id: domain id in the hardware's entry
 * @table: the page table attached
 */
struct hitless_attachment {
	u64 register_base;
	u64 context_table;
	u64 pasid_directory;
	u64 pasid_table;
	u64 domain;
	u32 segment;
	u32 max_pasid;
	u16 bdf;
	u16 domain_id;
	u32 reserved;
	struct hitless_table table;
};

/* Facts about a HWPT that has been marked. */
#define HITLESS_HWPT_DIRTY_TRACKING	BIT(0)
#define HITLESS_HWPT_NEST_PARENT	BIT(1)
#define HITLESS_HWPT_FAULT		BIT(2)
#define HITLESS_HWPT_PASID		BIT(3)
#define HITLESS_HWPT_AUTO		BIT(4)
/* Some mapping of the IOAS is not from a file, */
#define HITLESS_HWPT_OTHER_MEMORY	BIT(5)
/* or its file was not sealed (seal, grow, shrink) when it was mapped. */
#define HITLESS_HWPT_UNSEALED		BIT(6)
/* It is a restored domain: it can be replaced, not preserved again. */
#define HITLESS_HWPT_RESTORED		BIT(7)
/* The domain is not one whose tables can be described. */
#define HITLESS_HWPT_UNKNOWN_TABLE	BIT(8)
/* Folios were taken out of a file (a hole) after it was mapped. */
#define HITLESS_HWPT_HOLES		BIT(9)

/**
 * struct hitless_hwpt - a HWPT marked for preservation
 * @token: the user's token
 * @id: iommufd object id
 * @flags: HITLESS_HWPT_*
 * @table: its page table
 */
struct hitless_hwpt {
	u64 token;
	u32 id;
	u32 flags;
	struct hitless_table table;
};

/* Facts about a device behind a VFIO device file. */
#define HITLESS_VFIO_NO_IOMMUFD		BIT(0)
#define HITLESS_VFIO_NOT_ATTACHED	BIT(1)
/* Attached to something else than a HWPT marked with a token. */
#define HITLESS_VFIO_NOT_MARKED		BIT(2)
#define HITLESS_VFIO_VIRTFN		BIT(3)
#define HITLESS_VFIO_HAS_VFS		BIT(4)
#define HITLESS_VFIO_PASIDS		BIT(5)
/* The IOMMU group has other members, or the device has DMA aliases. */
#define HITLESS_VFIO_SHARED_GROUP	BIT(6)
#define HITLESS_VFIO_NOT_D0		BIT(7)
#define HITLESS_VFIO_NOT_VTD		BIT(8)
#define HITLESS_VFIO_TOO_MANY_BRIDGES	BIT(9)
#define HITLESS_VFIO_INTERRUPTS		BIT(10)
/* Still attached to its restored domain: swap first. */
#define HITLESS_VFIO_RESTORED		BIT(11)
/* The device's own translation cache (ATS) is on. */
#define HITLESS_VFIO_ATS		BIT(12)

/**
 * struct hitless_vfio - a device behind a VFIO device file
 * @iommufd: the iommufd it is bound to; borrowed, valid while the caller holds
 *	the VFIO file; NULL if none
 * @hwpt_token: token of the HWPT it is attached to
 * @flags: HITLESS_VFIO_*
 * @segment: PCI segment
 * @bdf: bus, device and function
 * @vendor: vendor id
 * @device: device id
 * @subsystem_vendor: subsystem vendor id
 * @subsystem_device: subsystem device id
 * @bridges: number of valid entries in @bridge
 * @class_revision: class code and revision
 * @bridge: the bridges above it, nearest first, as bdf
 * @unit: its IOMMU unit
 * @attachment: its attachment
 */
struct hitless_vfio {
	struct file *iommufd;
	u64 hwpt_token;
	u32 flags;
	u32 segment;
	u16 bdf;
	u16 vendor;
	u16 device;
	u16 subsystem_vendor;
	u16 subsystem_device;
	u16 bridges;
	u32 class_revision;
	u16 bridge[HITLESS_MAX_BRIDGES];
	struct hitless_unit unit;
	struct hitless_attachment attachment;
};

/* Kinds of translation entry that can be replaced under DMA. */
#define HITLESS_ENTRY_CONTEXT		1	/* legacy context entry, 2 words */
#define HITLESS_ENTRY_PASID		2	/* PASID table entry, 8 words */

/* Facts about a live entry whose device is to be attached to another domain. */
#define HITLESS_REPLACE_RESTORED	BIT(0)	/* it is on a restored domain */
#define HITLESS_REPLACE_NO_ENTRY	BIT(1)
#define HITLESS_REPLACE_UNKNOWN_TABLE	BIT(2)
/* It is not a PCI function's own entry. */
#define HITLESS_REPLACE_NOT_PCI		BIT(3)
/* The device uses other requester ids too. */
#define HITLESS_REPLACE_ALIASES		BIT(4)
#define HITLESS_REPLACE_PAGE_FAULTS	BIT(5)

/**
 * struct hitless_replace - one live translation entry and what it shall become
 * @dev: the device, handed back to the hitless_seam_vtd_*() steps
 * @kind: HITLESS_ENTRY_*
 * @wide: a 128-bit compare-exchange is available
 * @coherent: hardware snoops the entry
 * @ats: the device has translation caches of its own that are enabled
 * @old: the entry's words now
 * @new: the words it shall have
 */
struct hitless_replace {
	struct device *dev;
	u32 kind;
	u32 wide;
	u32 coherent;
	u32 ats;
	u64 old[8];
	u64 new[8];
};

/**
 * struct hitless_id_use - who uses which domain id on a unit, when a device
 *	changes from one domain to another
 * @users: attachments of the old domain under its id on this unit, 0 if it has
 *	none there
 * @has_own: the new domain has an id on this unit
 */
struct hitless_id_use {
	u32 users;
	u32 has_own;
};

/* What a seam asks to leave alone on a PCI function. */
enum hitless_keep {
	HITLESS_KEEP_BUS_MASTER,	/* outgoing: do not clear at shutdown */
	HITLESS_KEEP_ATS,		/* incoming: do not touch the ATS control */
	HITLESS_KEEP_STATE,		/* incoming: no reset, no bus master off */
	HITLESS_KEEP_POWER,		/* incoming: no D3 while idle */
	HITLESS_KEEP_CLOSED,		/* incoming: only LUO opens it */
	HITLESS_KEEP_ATTACHED,		/* outgoing: no other HWPT */
};

#ifdef CONFIG_HITLESS

/*
 * Asked by seams. Unless said otherwise the caller may sleep and holds no lock
 * that the callee could want.
 */

/* parameters.c: "hitless=off", "hitless.break=NAME,..." (CONFIG_HITLESS_BREAK) */
bool hitless_enabled(void);
bool hitless_leaves_out(const char *name);
/* Rust's half of the start, called once by parameters.c's. */
int hitless_init(void);

/* PCI. Does the function (endpoint or bridge) take part, and must be kept? */
bool hitless_pci_keeps(u32 segment, u16 bdf, enum hitless_keep what);

/*
 * VT-d, at boot before the unit's root table is set: 1 and *root_table if the
 * unit's tables are adopted, 0 if nothing is recorded for the unit, -errno if
 * what is recorded is refused: then the unit must translate with an empty root
 * table.
 */
int hitless_vtd_adopt(const struct hitless_unit *unit, u64 *root_table);
/* The unit's tables are refused, for a reason that this kernel has. */
void hitless_vtd_refuse(u64 register_base);
/*
 * Every unit has its root table now: what was refused is blocked, and nothing
 * walks its tables any more.
 */
void hitless_vtd_ready(void);
/* The index-th domain id in use in the unit's recorded tables, or -ENOENT. */
int hitless_vtd_domain_id(u64 register_base, u32 index);
/* 1 and *out if the device arrives running on adopted tables, 0, -errno. */
int hitless_vtd_incoming(u32 segment, u16 bdf, struct hitless_attachment *out);
/* Does the unit have outgoing devices? Interrupts off, one CPU, no sleeping. */
bool hitless_vtd_outgoing(u64 register_base);
/*
 * Clear every root and context entry that is not an outgoing device's. The
 * caller flushes the caches afterwards. Interrupts off, one CPU, no sleeping.
 */
void hitless_vtd_scrub(const struct hitless_unit *unit);
/*
 * May an entry of which these HITLESS_REPLACE_* hold be replaced as it lives?
 * 0; -EOPNOTSUPP: no, block the device first; -EBUSY: not at all.
 */
int hitless_vtd_may_replace(u32 facts);
/*
 * Replace a live entry with no moment at which a DMA would fault, by calls of
 * the steps below. -EINVAL if the planner refuses; nothing has been written
 * then. Serialized by the caller against other writers of the entry.
 */
int hitless_vtd_replace(const struct hitless_replace *replace);
/* Shall the new domain get the id of the old one? The caller may hold a mutex. */
bool hitless_vtd_hands_over(const struct hitless_id_use *use);

/* The restored domain is gone from hardware and caches: free its tables. */
void hitless_domain_release(u64 domain);
/* Devices that arrived on the restored domain and, probed or not, still use it. */
unsigned int hitless_domain_devices(u64 domain);
/* A device is not on its restored domain any more: swapped, blocked, removed. */
void hitless_device_left(u32 segment, u16 bdf);
/* A device that arrived was stopped: it is an ordinary one from here on. */
void hitless_device_stopped(u32 segment, u16 bdf);

/* A HWPT token of an incoming iommufd: 0 and *domain, -ENOENT, -EEXIST. */
int hitless_iommufd_restore(u64 iommufd, u64 token, u64 *domain);
/*
 * May the device bind to the iommufd with this key (0: one that was not
 * retrieved)? 1 and the token of the HWPT it runs on, 0 if the device is not
 * incoming, -EPERM if it is and this is not its iommufd.
 */
int hitless_iommufd_binds(u64 iommufd, u32 segment, u16 bdf, u64 *token);

/* Does a restored table map the memfd with this serialized data? */
bool hitless_memory_is_mapped(u64 serialized_data);

/*
 * Called by glue.
 */

/* iommu-pages: take a table page back from KHO, with the usual accounting. */
int hitless_seam_iommu_restore_page(u64 phys);

/* VT-d: the steps of a replacement. @words as in struct hitless_replace. */
int hitless_seam_vtd_store64(const struct hitless_replace *r, u32 word, u64 val);
int hitless_seam_vtd_exchange128(const struct hitless_replace *r, u32 word,
				 u64 lo, u64 hi);
void hitless_seam_vtd_flush_context(const struct hitless_replace *r, u16 did);
void hitless_seam_vtd_flush_pasid(const struct hitless_replace *r, u16 did);
void hitless_seam_vtd_flush_iotlb(const struct hitless_replace *r, u16 did);
void hitless_seam_vtd_flush_device(const struct hitless_replace *r);

/* iommufd. Files are iommufd files where hitless_seam_iommufd_is() says so. */
bool hitless_seam_iommufd_is(struct file *file);
/* Make the IOASes of marked HWPTs immutable, or undo that. */
int hitless_seam_iommufd_freeze(struct file *file);
void hitless_seam_iommufd_unfreeze(struct file *file);
/* Marked HWPTs: how many were written, or -E2BIG. Call between the two above. */
int hitless_seam_iommufd_hwpts(struct file *file, struct hitless_hwpt *hwpts,
			       u32 max);
/* Distinct files behind a HWPT's IOAS, borrowed: how many, or -E2BIG. */
int hitless_seam_iommufd_files(struct file *file, u32 hwpt_id,
			       struct file **files, u32 max);
/* A new iommufd file that carries @key. */
int hitless_seam_iommufd_create(u64 key, struct file **file);

/* kexec: will the loaded image get what is handed over? At freeze only. */
bool hitless_seam_image_takes_over(void);

/* VFIO device files (cdev) of vfio-pci. */
bool hitless_seam_vfio_is(struct file *file);
int hitless_seam_vfio_describe(struct file *file, struct hitless_vfio *out);
int hitless_seam_vfio_create(u32 segment, u16 bdf, struct file **file);
/* Has the retrieved file been bound to its iommufd? */
bool hitless_seam_vfio_is_bound(struct file *file);

/*
 * Between seams.
 */

/* VT-d: how a device is attached, for VFIO's seam. -ENODEV: not by VT-d. */
int hitless_seam_vtd_describe(struct device *dev, struct hitless_unit *unit,
			      struct hitless_attachment *out);
/* VT-d: a domain's page table. -EOPNOTSUPP: not one of VT-d's. */
int hitless_seam_vtd_table(struct iommu_domain *domain,
			   struct hitless_table *table);
/* VT-d: the restored domain with this key, for a HWPT; -EEXIST, -ENOMEM. */
struct iommu_domain *hitless_seam_vtd_domain(u64 key);
/* VFIO: a file for a device that LUO retrieves, as if its cdev was opened. */
struct file *hitless_seam_vfio_open(struct vfio_device *device);
/* VFIO: the device behind a cdev file that has been bound, else NULL. */
struct vfio_device *hitless_seam_vfio_device(struct file *file,
					     struct iommufd_ctx **iommufd);
/* vfio-pci: open a device that is running. */
void hitless_seam_vfio_take_over(struct vfio_pci_core_device *vdev);
/* iommufd: the file that a device is bound to, and what it is attached to. */
struct file *hitless_seam_iommufd_file(struct iommufd_device *idev);
u32 hitless_seam_iommufd_attached(struct iommufd_device *idev, u64 *token);

#else /* CONFIG_HITLESS */

static inline bool hitless_enabled(void) { return false; }
static inline bool hitless_pci_keeps(u32 segment, u16 bdf,
				     enum hitless_keep what) { return false; }
static inline int hitless_vtd_adopt(const struct hitless_unit *unit,
				    u64 *root_table) { return 0; }
static inline void hitless_vtd_ready(void) { }
static inline int hitless_vtd_domain_id(u64 register_base,
					u32 index) { return -ENOENT; }
static inline int hitless_vtd_incoming(u32 segment, u16 bdf,
				       struct hitless_attachment *out) { return 0; }
static inline bool hitless_vtd_outgoing(u64 register_base) { return false; }
static inline void hitless_vtd_scrub(const struct hitless_unit *unit) { }
static inline int hitless_iommufd_binds(u64 iommufd, u32 segment, u16 bdf,
					u64 *token) { return 0; }
static inline bool hitless_memory_is_mapped(u64 serialized_data) { return false; }
static inline void
hitless_seam_vfio_take_over(struct vfio_pci_core_device *vdev) { }

#endif /* CONFIG_HITLESS */

/* The same for any device: what is not PCI never takes part. */
static inline bool hitless_dev_keeps(struct device *dev, enum hitless_keep what)
{
	struct pci_dev *pdev;

	if (!dev_is_pci(dev))
		return false;
	pdev = to_pci_dev(dev);
	return hitless_pci_keeps(pci_domain_nr(pdev->bus), pci_dev_id(pdev),
				 what);
}

#endif /* _LINUX_HITLESS_H */
