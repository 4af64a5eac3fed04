// SPDX-License-Identifier: GPL-2.0-only
/*
 * VT-d goes on remapping interrupts through a kexec: a device that goes on can
 * write to where interrupts are requested, and tables of DMA do not see that.
 */

#include <linux/hitless/vtd.h>
#include <linux/kexec_handover.h>

#include "../iommu-pages.h"
#include "hitless.h"
#include "iommu.h"

/* Linux makes tables of this size only. */
#define IRQ_TABLE_SIZE	SZ_1M
/* Bit of the lower half of an entry (VT-d 9.9). */
#define IRQ_ENTRY_PRESENT	BIT_ULL(0)

/* Entries that are not present mean nothing, and are left as they are. */
static void clear_table(struct intel_iommu *iommu, struct irte *table)
{
	struct irte *entry;

	for (entry = table; entry < table + INTR_REMAP_TABLE_ENTRIES; entry++) {
		if (!(READ_ONCE(entry->low) & IRQ_ENTRY_PRESENT))
			continue;
		WRITE_ONCE(entry->low, 0);
		entry->high = 0;
		__iommu_flush_cache(iommu, entry, sizeof(*entry));
	}
}

/*
 * Boot, before anything is known of records: the register names the table, and
 * KHO knows whether it was handed over. NULL: a new table has to be made, and
 * remapping is switched off for that. The caller invalidates the cache.
 */
struct irte *intel_hitless_adopt_irq_table(struct intel_iommu *iommu,
					   u64 wanted)
{
	const unsigned int order = get_order(IRQ_TABLE_SIZE);
	struct hitless_vtd_irq_table table = {
		.register_base = iommu->reg_phys,
		.live = readq(iommu->reg + DMAR_IRTA_REG),
		.wanted = wanted,
	};
	phys_addr_t phys = table.live & VTD_PAGE_MASK;

	if (readl(iommu->reg + DMAR_GSTS_REG) & DMA_GSTS_IRES)
		table.facts |= HITLESS_IRQ_REMAPPING;
	if (is_kho_boot())
		table.facts |= HITLESS_IRQ_AFTER_HANDOVER;
	if (kho_is_restorable(phys, order))
		table.facts |= HITLESS_IRQ_TABLE_HANDED_OVER;
	if (!hitless_vtd_adopts_irq_table(&table) ||
	    hitless_restore_iommu_pages(phys, order))
		return NULL;
	clear_table(iommu, phys_to_virt(phys));
	return phys_to_virt(phys);
}

/* Shutdown, interrupts off, one CPU: no interrupt is anybody's any more. */
void intel_hitless_clear_irq_table(struct intel_iommu *iommu)
{
	struct qi_desc desc = { .qw0 = QI_IEC_TYPE };

	if (!iommu->ir_table)
		return;
	clear_table(iommu, iommu->ir_table->base);
	qi_submit_sync(iommu, &desc, 1, 0);
	hitless_vtd_irq_table_cleared(iommu->reg_phys);
}

bool hitless_seam_vtd_irq_table(u32 index, u64 *phys)
{
	struct dmar_drhd_unit *drhd;
	struct intel_iommu *iommu;

	guard(rwsem_read)(&dmar_global_lock);
	for_each_iommu(iommu, drhd) {
		if (index--)
			continue;
		*phys = iommu->ir_table ?
				virt_to_phys(iommu->ir_table->base) : 0;
		return true;
	}
	return false;
}
