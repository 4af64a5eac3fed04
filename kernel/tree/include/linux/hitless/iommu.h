/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * hitless: what the IOMMU core and the drivers of units ask, whatever the
 * hardware. What one kind of hardware adds is in a header of its own.
 */
#ifndef _LINUX_HITLESS_IOMMU_H
#define _LINUX_HITLESS_IOMMU_H

#include <linux/errno.h>
#include <linux/types.h>

struct device;
struct iommu_domain;
struct pci_dev;

/* Formats of page tables, numbered as in the records; others are per kind. */
#define HITLESS_PT_X86_64	2

/* Words of what only a kind of hardware understands. */
#define HITLESS_UNIT_WORDS	6
#define HITLESS_ATTACHMENT_WORDS	4

/**
 * struct hitless_unit - an IOMMU unit as it is now
 * @register_base: physical address of the register set; names the unit
 * @segment: PCI segment of the devices that it translates for
 * @kind: kind of hardware
 * @payload: what the kind adds
 */
struct hitless_unit {
	u64 register_base;
	u32 segment;
	u32 kind;
	u64 payload[HITLESS_UNIT_WORDS];
};

/**
 * struct hitless_table - the page table of an IOMMU domain
 * @top: physical address of the top table
 * @format: HITLESS_PT_*
 * @levels: number of levels, 3 to 5
 * @incoherent: hardware does not snoop the tables
 * @snoop: snooping of the domain's accesses is forced
 * @tracks_dirty: hardware marks what is written to
 * @reserved: 0
 */
struct hitless_table {
	u64 top;
	u32 format;
	u32 levels;
	u32 incoherent;
	u32 snoop;
	u32 tracks_dirty;
	u32 reserved;
};

/**
 * struct hitless_attachment - how a device is attached to its domain
 * @register_base: the unit that translates for the device
 * @segment: PCI segment
 * @domain_id: the tag of cached translations in the hardware's entry
 * @bdf: bus, device and function
 * @reserved: 0
 * @table: the page table attached
 * @payload: what the kind of hardware adds
 */
struct hitless_attachment {
	u64 register_base;
	u32 segment;
	u32 domain_id;
	u16 bdf;
	u16 reserved[3];
	struct hitless_table table;
	u64 payload[HITLESS_ATTACHMENT_WORDS];
};

/* Facts about a device that is probed. */
enum {
	HITLESS_ARRIVES_ALONE = 1 << 0,	/* nobody else in its group */
	HITLESS_ARRIVES_BUS_MASTER = 1 << 1,
	HITLESS_ARRIVES_BLOCKED = 1 << 2,	/* its unit was refused */
};

/* What becomes of it. */
enum hitless_arrival {
	HITLESS_ARRIVES_ORDINARY,
	HITLESS_ARRIVES_RESTORED,
	HITLESS_ARRIVES_STOPPED,
};

/**
 * struct hitless_iommu_ops - what a driver of units brings
 * @describe_device: how the device is attached: 0, or -ENODEV if it is not.
 *	The caller keeps the device's HWPT from going away.
 * @describe_table: the page table of a domain of the driver's: 0, or
 *	-EOPNOTSUPP if it is not one that can be described.
 * @is_blocked: is the device's unit blocked for what is not known?
 * @take_over: the device's live entry belongs to a restored domain from now on.
 * @block: make the device's live entry, whoever made it, translate nothing.
 */
struct hitless_iommu_ops {
	int (*describe_device)(struct device *dev, struct hitless_unit *unit,
			       struct hitless_attachment *out);
	int (*describe_table)(struct iommu_domain *domain,
			      struct hitless_table *table);
	bool (*is_blocked)(struct device *dev);
	void (*take_over)(struct device *dev);
	void (*block)(struct device *dev);
};

#ifdef CONFIG_HITLESS

/**
 * hitless_iommu_arrives() - a device is probed: how does it go on?
 * @segment: PCI segment
 * @bdf: bus, device and function
 * @facts: HITLESS_ARRIVES_*
 * @domain: the key of the restored domain that it goes on with
 *
 * Context: The group's mutex is held. May sleep.
 * Return: with a restored domain, as an ordinary device, or as one that has to
 * be stopped first.
 */
enum hitless_arrival hitless_iommu_arrives(u32 segment, u16 bdf, u32 facts,
					   u64 *domain);

/**
 * hitless_iommu_stopped() - a device that arrived was stopped
 * @pdev: the device
 *
 * It is an ordinary one from here on.
 *
 * Context: May sleep.
 */
void hitless_iommu_stopped(struct pci_dev *pdev);

/**
 * hitless_iommu_left() - a device does not use its restored domain any more
 * @pdev: the device
 * @took_id: the domain that it changed to has the domain id now
 *
 * It was swapped or blocked, and the caches have been flushed.
 *
 * Context: May sleep.
 * Return: the domain id if nobody uses it any more, which the caller gives
 * back; else -1.
 */
int hitless_iommu_left(struct pci_dev *pdev, bool took_id);

/**
 * hitless_iommu_users() - how many devices use a restored domain?
 * @domain: its key
 *
 * Those that have not been probed yet count.
 *
 * Context: May sleep.
 * Return: their number.
 */
unsigned int hitless_iommu_users(u64 domain);

/**
 * hitless_iommu_release() - a restored domain is gone
 * @domain: its key
 *
 * Hardware and caches do not know its tables any more: they are freed.
 *
 * Context: May sleep.
 */
void hitless_iommu_release(u64 domain);

/**
 * hitless_seam_iommu_restore_page() - take a table page back from KHO
 * @phys: physical address of the page
 *
 * It is accounted for as every page of an IOMMU.
 *
 * Context: May sleep.
 * Return: 0, or -ENOENT if it was not handed over.
 */
int hitless_seam_iommu_restore_page(u64 phys);

/**
 * hitless_restore_iommu_pages() - take pages of an IOMMU back from KHO
 * @phys: physical address of the pages
 * @order: how many they are
 *
 * They are accounted for as all pages of IOMMUs.
 *
 * Context: May sleep.
 * Return: 0, or -ENOENT if they were not handed over.
 */
int hitless_restore_iommu_pages(phys_addr_t phys, unsigned int order);

/**
 * hitless_domain_restore() - the domain that a device arrived with
 * @dev: the device
 * @alone: nobody else is in its group
 *
 * A device that may be running and may not go on is stopped here.
 *
 * Context: Device probe, before the first attach. The group's mutex is held.
 * Return: the restored domain, or NULL for an ordinary device.
 */
struct iommu_domain *hitless_domain_restore(struct device *dev, bool alone);

/**
 * hitless_domain_for_hwpt() - the restored domain for a HWPT
 * @key: the domain's key
 *
 * Context: May sleep.
 * Return: the domain, or -EEXIST if there is a HWPT of it, or -ENOMEM.
 */
struct iommu_domain *hitless_domain_for_hwpt(u64 key);

/**
 * hitless_domain_key() - the key of a restored domain
 * @domain: the domain
 *
 * Context: Any.
 * Return: the key.
 */
u64 hitless_domain_key(struct iommu_domain *domain);

/**
 * hitless_domain_left() - a device is off a domain
 * @old: the domain, restored or not, or NULL
 * @dev: the device
 * @took_id: the domain that it changed to has the domain id now
 *
 * Context: As hitless_iommu_left().
 * Return: as hitless_iommu_left(); -1 if the domain is not a restored one.
 */
int hitless_domain_left(struct iommu_domain *old, struct device *dev,
			bool took_id);

/**
 * hitless_describe_table() - the page table of a domain
 * @domain: the domain, of any driver
 * @table: the page table
 *
 * Context: The caller keeps the domain. May sleep.
 * Return: 0 and *@table, or -EOPNOTSUPP.
 */
int hitless_describe_table(struct iommu_domain *domain,
			   struct hitless_table *table);

/**
 * hitless_describe_device() - how a device is attached
 * @dev: the device
 * @unit: its unit
 * @out: its attachment
 *
 * Context: The caller keeps the device's HWPT. May sleep.
 * Return: 0 and both, or -ENODEV.
 */
int hitless_describe_device(struct device *dev, struct hitless_unit *unit,
			    struct hitless_attachment *out);

#else /* CONFIG_HITLESS */

static inline struct iommu_domain *hitless_domain_restore(struct device *dev,
							  bool alone)
{
	return NULL;
}

#endif /* CONFIG_HITLESS */

#endif /* _LINUX_HITLESS_IOMMU_H */
