// SPDX-License-Identifier: GPL-2.0-only
/*
 * A live entry of VT-d's: where its words are, what they shall be, and the
 * single steps of changing them and of flushing what was cached of them.
 */

#include <linux/hitless/vtd.h>
#include <linux/pci-ats.h>

#include "hitless.h"
#include "iommu.h"
#include "pasid.h"

u64 *intel_hitless_entry_words(const struct hitless_vtd_swap *s)
{
	struct device_domain_info *info = dev_iommu_priv_get(s->dev);
	struct pasid_entry *table;

	if (s->kind == HITLESS_VTD_CONTEXT)
		return (u64 *)iommu_context_addr(info->iommu, info->bus,
						 info->devfn, 0);
	table = info->pasid_table ?
		get_pasid_table_from_pde(info->pasid_table->table) : NULL;
	return table ? table[IOMMU_NO_PASID].val : NULL;
}

size_t intel_hitless_entry_size(const struct hitless_vtd_swap *s)
{
	return s->kind == HITLESS_VTD_CONTEXT ? sizeof(struct context_entry) :
						  sizeof(struct pasid_entry);
}

/*
 * Others change bits of a present entry under the unit's lock (dirty tracking).
 * -EAGAIN: they have, and the plan does not hold any more.
 */
int hitless_seam_vtd_store64(const struct hitless_vtd_swap *s, u32 word, u64 val)
{
	struct device_domain_info *info = dev_iommu_priv_get(s->dev);
	u64 *words = intel_hitless_entry_words(s);

	guard(spinlock)(&info->iommu->lock);
	if (memcmp(words, s->old, intel_hitless_entry_size(s)))
		return -EAGAIN;
	WRITE_ONCE(words[word], val);
	if (!s->coherent)
		clflush_cache_range(words, intel_hitless_entry_size(s));
	return 0;
}

int hitless_seam_vtd_exchange128(const struct hitless_vtd_swap *s, u32 word,
				 u64 lo, u64 hi)
{
	struct device_domain_info *info = dev_iommu_priv_get(s->dev);
	u128 old = ((u128)s->old[word + 1] << 64) | s->old[word];
	u128 new = ((u128)hi << 64) | lo;
	u64 *words = intel_hitless_entry_words(s);

	guard(spinlock)(&info->iommu->lock);
	if (memcmp(words, s->old, intel_hitless_entry_size(s)) ||
	    !arch_try_cmpxchg128((u128 *)&words[word], &old, new))
		return -EAGAIN;
	if (!s->coherent)
		clflush_cache_range(words, intel_hitless_entry_size(s));
	return 0;
}

static void flush_device(struct device_domain_info *info, struct device *dev)
{
	if (!info->ats_enabled || !pci_device_is_present(to_pci_dev(dev)))
		return;
	qi_flush_dev_iotlb(info->iommu, PCI_DEVID(info->bus, info->devfn),
			   info->pfsid, info->ats_qdep, 0, MAX_AGAW_PFN_WIDTH);
	quirk_extra_dev_tlb_flush(info, 0, MAX_AGAW_PFN_WIDTH, IOMMU_NO_PASID,
				  info->ats_qdep);
}

void hitless_seam_vtd_flush(const struct hitless_vtd_swap *s,
			    enum hitless_vtd_cache what, u16 did)
{
	struct device_domain_info *info = dev_iommu_priv_get(s->dev);
	struct intel_iommu *iommu = info->iommu;

	switch (what) {
	case HITLESS_VTD_CACHE_CONTEXT:
		iommu->flush.flush_context(iommu, did,
					   PCI_DEVID(info->bus, info->devfn),
					   DMA_CCMD_MASK_NOBIT,
					   DMA_CCMD_DEVICE_INVL);
		break;
	case HITLESS_VTD_CACHE_PASID:
		qi_flush_pasid_cache(iommu, did, QI_PC_PASID_SEL,
				     IOMMU_NO_PASID);
		break;
	case HITLESS_VTD_CACHE_IOTLB:
		if (s->kind == HITLESS_VTD_PASID)
			qi_flush_piotlb_all(iommu, did, IOMMU_NO_PASID);
		iommu->flush.flush_iotlb(iommu, did, 0, 0, DMA_TLB_DSI_FLUSH);
		break;
	case HITLESS_VTD_CACHE_DEVICE:
		flush_device(info, s->dev);
		break;
	}
}

/* The words that the entry of @info shall have for @domain under @did. */
int intel_hitless_build_entry(struct device_domain_info *info,
			      struct dmar_domain *domain, u16 did,
			      struct hitless_vtd_swap *s)
{
	struct context_entry context = {};
	struct hitless_table table;
	int ret;

	ret = intel_hitless_describe_table(&domain->domain, &table);
	if (ret)
		return ret;
	if (s->kind == HITLESS_VTD_PASID)
		return intel_pasid_build_entry(info->iommu, domain, did, &table,
					       (struct pasid_entry *)s->new);
	if (table.format != HITLESS_PT_VTDSS)
		return -EINVAL;
	context_set_domain_id(&context, did);
	context_set_address_root(&context, table.top);
	context_set_address_width(&context, table.levels - 2);
	context_set_translation_type(&context, info->ats_supported ?
				     CONTEXT_TT_DEV_IOTLB :
				     CONTEXT_TT_MULTI_LEVEL);
	context_set_fault_enable(&context);
	context_set_present(&context);
	s->new[0] = context.lo;
	s->new[1] = context.hi;
	return 0;
}
