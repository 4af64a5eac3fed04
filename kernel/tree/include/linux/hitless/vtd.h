/* SPDX-License-Identifier: GPL-2.0-only */
/* hitless: what VT-d's driver asks, and what VT-d adds to units and devices. */
#ifndef _LINUX_HITLESS_VTD_H
#define _LINUX_HITLESS_VTD_H

#include <linux/build_bug.h>
#include <linux/hitless/iommu.h>

#define HITLESS_KIND_VTD	1
#define HITLESS_PT_VTDSS	1

/**
 * struct hitless_vtd_unit - what VT-d adds to a unit
 * @root_table: physical address of the root table in software's hands, 0 if
 *	there is none yet
 * @live_root: the Root Table Address Register as the hardware has it
 * @capability: Capability Register
 * @extended_capability: Extended Capability Register
 * @scalable: the unit is used in scalable mode
 * @translating: translation is on (GSTS.TES)
 */
struct hitless_vtd_unit {
	u64 root_table;
	u64 live_root;
	u64 capability;
	u64 extended_capability;
	u64 scalable;
	u64 translating;
};

/**
 * struct hitless_vtd_attachment - what VT-d adds to an attachment
 * @context_table: physical address of the context table with its entry
 * @pasid_directory: physical address of the PASID directory, 0 in legacy mode
 * @pasid_table: physical address of the PASID table with entry 0, 0 in legacy
 *	mode
 * @max_pasid: number of PASIDs the directory has room for
 */
struct hitless_vtd_attachment {
	u64 context_table;
	u64 pasid_directory;
	u64 pasid_table;
	u64 max_pasid;
};

static_assert(sizeof(struct hitless_vtd_unit) ==
	      sizeof_field(struct hitless_unit, payload));
static_assert(sizeof(struct hitless_vtd_attachment) ==
	      sizeof_field(struct hitless_attachment, payload));

/**
 * struct hitless_vtd_adopted - what a unit goes on with
 * @root_table: physical address of its root table; 0: nobody runs behind it, and
 *	it goes on translating with an empty one that the caller makes
 * @ids: the domain ids in use in its tables, to be given to nobody else; the
 *	caller frees the array with kfree()
 * @count: their number
 */
struct hitless_vtd_adopted {
	u64 root_table;
	u16 *ids;
	u32 count;
};

/* Facts about interrupt remapping of a unit, as it is found at boot. */
enum {
	HITLESS_IRQ_REMAPPING = 1 << 0,	/* it is on (GSTS.IRES) */
	/* The previous kernel handed something over. */
	HITLESS_IRQ_AFTER_HANDOVER = 1 << 1,
	/* The table was, and has not been taken yet. */
	HITLESS_IRQ_TABLE_HANDED_OVER = 1 << 2,
};

/**
 * struct hitless_vtd_irq_table - the table that a unit remaps interrupts by
 * @register_base: the unit
 * @live: the Interrupt Remapping Table Address Register as the hardware has it
 * @wanted: what this kernel would write there, the address apart
 * @facts: HITLESS_IRQ_*
 * @reserved: 0
 */
struct hitless_vtd_irq_table {
	u64 register_base;
	u64 live;
	u64 wanted;
	u32 facts;
	u32 reserved;
};

/* Kinds of translation entry that can be swapped under DMA. */
#define HITLESS_VTD_CONTEXT		1	/* legacy context entry, 2 words */
#define HITLESS_VTD_PASID		2	/* PASID table entry, 8 words */

/* Facts about a live entry whose device is to be attached to another domain. */
enum {
	HITLESS_SWAP_RESTORED = 1 << 0,	/* it is on a restored domain */
	HITLESS_SWAP_NO_ENTRY = 1 << 1,
	HITLESS_SWAP_UNKNOWN_TABLE = 1 << 2,
	/* It is not a PCI function's own entry. */
	HITLESS_SWAP_NOT_PCI = 1 << 3,
	/* The device uses other requester ids too. */
	HITLESS_SWAP_ALIASES = 1 << 4,
	HITLESS_SWAP_PAGE_FAULTS = 1 << 5,
};

/**
 * struct hitless_vtd_swap - a live entry whose device changes its domain
 * @dev: the device
 * @domain: the new domain
 * @old_domain: the old one
 * @restored: the key of the old one if it is a restored domain, else 0
 * @register_base: the unit
 * @facts: HITLESS_SWAP_*
 * @kind: HITLESS_VTD_CONTEXT or HITLESS_VTD_PASID
 * @wide: a 128-bit compare-exchange is available
 * @coherent: hardware snoops the entry
 * @ats: the device has translation caches of its own that are enabled
 * @old_users: attachments of the old domain under its id on this unit, as far
 *	as this kernel made them
 * @old_id: the domain id in the entry
 * @has_own_id: the new domain has an id on this unit
 * @new_id: its id on this unit, from hitless_seam_vtd_swap_begin() on
 * @old: the entry's words now
 * @new: the words it shall have, from hitless_seam_vtd_swap_begin() on
 */
struct hitless_vtd_swap {
	struct device *dev;
	struct iommu_domain *domain;
	struct iommu_domain *old_domain;
	u64 restored;
	u64 register_base;
	u32 facts;
	u32 kind;
	u32 wide;
	u32 coherent;
	u32 ats;
	u32 old_users;
	u32 old_id;
	u32 has_own_id;
	u32 new_id;
	u64 old[8];
	u64 new[8];
};

/* What can be flushed: for the device, the domain, the domain, the device. */
enum hitless_vtd_cache {
	HITLESS_VTD_CACHE_CONTEXT,
	HITLESS_VTD_CACHE_PASID,
	HITLESS_VTD_CACHE_IOTLB,
	HITLESS_VTD_CACHE_DEVICE,
};

#ifdef CONFIG_HITLESS

/**
 * hitless_vtd_adopt() - does a unit go on with the tables it has?
 * @unit: the unit, before its root table is set
 * @out: what it goes on with
 *
 * Context: Boot. May sleep.
 * Return: 1 and *@out if the tables are adopted; 0 if nothing is recorded for
 * the unit; -errno if what is recorded is refused: then the unit must go on
 * translating, with an empty root table.
 */
int hitless_vtd_adopt(const struct hitless_unit *unit,
		      struct hitless_vtd_adopted *out);

/**
 * hitless_vtd_refuse() - the unit's tables are refused after all
 * @register_base: the unit
 *
 * Context: Boot. May sleep.
 */
void hitless_vtd_refuse(u64 register_base);

/**
 * hitless_vtd_ready() - every unit has its root table
 *
 * What was refused is blocked now, and nothing walks its tables any more.
 *
 * Context: Boot. May sleep.
 */
void hitless_vtd_ready(void);

/**
 * hitless_vtd_arrived() - which PASID directory did a device arrive with?
 * @segment: PCI segment
 * @bdf: bus, device and function
 * @out: what its entry leads to
 *
 * Context: Device probe. May sleep.
 * Return: true and *@out if it arrives running on adopted tables.
 */
bool hitless_vtd_arrived(u32 segment, u16 bdf,
			 struct hitless_vtd_attachment *out);

/**
 * hitless_vtd_adopts_irq_table() - does a unit go on with the table it has?
 * @table: the table by which it remaps interrupts
 *
 * Context: Boot, before hitless_init(): records cannot be asked yet.
 * Return: true if it does, and interrupt remapping stays on.
 */
bool hitless_vtd_adopts_irq_table(const struct hitless_vtd_irq_table *table);

/**
 * hitless_vtd_stays_on() - may a device be running on the unit's tables?
 * @unit: the unit, before this kernel has done anything to it
 *
 * Context: Boot. May sleep.
 * Return: true if translation must not be switched off.
 */
bool hitless_vtd_stays_on(const struct hitless_unit *unit);

/**
 * hitless_vtd_leave() - how is a unit left to the next kernel?
 * @unit: the unit
 * @preserved: anything is preserved, behind whichever unit
 *
 * Every entry that is not an outgoing device's has been cleared afterwards; the
 * caller sets the root table and flushes the caches.
 *
 * Context: Shutdown: interrupts off, one CPU, no sleeping.
 * Return: physical address of the root table it goes on with; 0: nothing is
 * preserved, or the unit does not translate.
 */
u64 hitless_vtd_leave(const struct hitless_unit *unit, bool *preserved);

/**
 * hitless_vtd_irq_table_cleared() - interrupts are nobody's any more
 * @register_base: the unit whose table has been cleared
 *
 * Context: Shutdown: interrupts off, one CPU, no sleeping.
 */
void hitless_vtd_irq_table_cleared(u64 register_base);

/**
 * hitless_seam_vtd_irq_table() - the table by which a unit remaps interrupts
 * @index: number of the unit, from 0 on
 * @phys: physical address of the table, 0 if the unit has none
 *
 * Context: May sleep.
 * Return: true and *@phys if there is such a unit.
 */
bool hitless_seam_vtd_irq_table(u32 index, u64 *phys);

/**
 * hitless_vtd_swap() - change a live entry with no moment at which DMA faults
 * @swap: all there is to know
 *
 * Carried out by calls of the steps below.
 *
 * Context: The group's mutex and the unit's did_lock are held: nobody else
 * changes the entry or an id. May sleep.
 * Return: 0: done. -EOPNOTSUPP: not possible here, block the device first. Any
 * other error: refused. Unless it is done everything is as it was.
 */
int hitless_vtd_swap(struct hitless_vtd_swap *swap);

/**
 * hitless_seam_vtd_swap_begin() - prepare the new domain for the device
 * @swap: the swap; its new words are filled in
 * @hand_over: the new domain gets the old one's id, else one of its own
 *
 * Context: From hitless_vtd_swap().
 * Return: 0, or an error after which nothing has changed.
 */
int hitless_seam_vtd_swap_begin(struct hitless_vtd_swap *swap, bool hand_over);

/**
 * hitless_seam_vtd_swap_abort() - undo of hitless_seam_vtd_swap_begin()
 * @swap: the swap
 * @hand_over: as it was begun
 *
 * Context: From hitless_vtd_swap().
 */
void hitless_seam_vtd_swap_abort(struct hitless_vtd_swap *swap, bool hand_over);

/**
 * hitless_seam_vtd_swap_end() - software follows the hardware
 * @swap: the swap, of which all steps are done
 * @hand_over: as it was begun
 *
 * Context: From hitless_vtd_swap().
 */
void hitless_seam_vtd_swap_end(struct hitless_vtd_swap *swap, bool hand_over);

/**
 * hitless_seam_vtd_store64() - store one word of the live entry
 * @swap: the swap
 * @word: which word
 * @val: its new value
 *
 * Context: From hitless_vtd_swap().
 * Return: 0, or -EAGAIN if the entry is not as it was and nothing is written.
 */
int hitless_seam_vtd_store64(const struct hitless_vtd_swap *swap, u32 word,
			     u64 val);

/**
 * hitless_seam_vtd_exchange128() - exchange two words of the live entry
 * @swap: the swap
 * @word: the first of the words, even
 * @lo: its new value
 * @hi: the new value of the other
 *
 * Context: From hitless_vtd_swap().
 * Return: 0, or -EAGAIN if the entry is not as it was and nothing is written.
 */
int hitless_seam_vtd_exchange128(const struct hitless_vtd_swap *swap, u32 word,
				 u64 lo, u64 hi);

/**
 * hitless_seam_vtd_flush() - flush what was cached of the entry
 * @swap: the swap
 * @what: which cache
 * @did: the domain id that was in the entry
 *
 * Context: From hitless_vtd_swap().
 */
void hitless_seam_vtd_flush(const struct hitless_vtd_swap *swap,
			    enum hitless_vtd_cache what, u16 did);

#else /* CONFIG_HITLESS */

static inline void hitless_vtd_ready(void) { }

#endif /* CONFIG_HITLESS */

#endif /* _LINUX_HITLESS_VTD_H */
