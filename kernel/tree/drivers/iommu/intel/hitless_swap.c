// SPDX-License-Identifier: GPL-2.0-only
/*
 * The swap: a device's live entry changes from one page table to another with
 * no moment at which a DMA faults. In which way, and whether at all, is decided
 * in drivers/hitless; here are the facts it is decided on and the single steps.
 */

#include <linux/hitless/vtd.h>

#include "hitless.h"
#include "iommu.h"
#include "pasid.h"

/*
 * Give the domain an id on the unit: @did, or if that is negative its own.
 */
static int get_domain_id(struct dmar_domain *domain, struct intel_iommu *iommu,
			 int did)
{
	struct iommu_domain_info *id;
	int ret;

	lockdep_assert_held(&iommu->did_lock);
	id = xa_load(&domain->iommu_array, iommu->seq_id);
	if (id) {
		id->refcnt++;
		return 0;
	}
	id = kzalloc_obj(*id);
	if (!id)
		return -ENOMEM;
	id->refcnt = 1;
	id->iommu = iommu;
	id->did = did;
	if (did < 0) {
		ret = ida_alloc_range(&iommu->domain_ida, IDA_START_DID,
				      iommu->max_domain_id - 1, GFP_KERNEL);
		if (ret < 0)
			goto err_free;
		id->did = ret;
	}
	ret = xa_err(xa_store(&domain->iommu_array, iommu->seq_id, id,
			      GFP_KERNEL));
	if (!ret)
		return 0;
	if (did < 0)
		ida_free(&iommu->domain_ida, id->did);
err_free:
	kfree(id);
	return ret;
}

/* Undo of get_domain_id(). An id that is @kept is somebody else's. */
static void put_domain_id(struct dmar_domain *domain, struct intel_iommu *iommu,
			  bool kept)
{
	struct iommu_domain_info *id;

	lockdep_assert_held(&iommu->did_lock);
	id = xa_load(&domain->iommu_array, iommu->seq_id);
	if (--id->refcnt)
		return;
	xa_erase(&domain->iommu_array, iommu->seq_id);
	if (!kept)
		ida_free(&iommu->domain_ida, id->did);
	kfree(id);
}

int hitless_seam_vtd_swap_begin(struct hitless_vtd_swap *s, bool hand_over)
{
	struct device_domain_info *info = dev_iommu_priv_get(s->dev);
	struct dmar_domain *domain = to_dmar_domain(s->domain);
	int ret;

	ret = get_domain_id(domain, info->iommu, hand_over ? (int)s->old_id : -1);
	if (ret)
		return ret;
	s->new_id = domain_id_iommu(domain, info->iommu);
	ret = intel_hitless_build_entry(info, domain, s->new_id, s);
	/* Before the switch: from then on unmapping must flush for us. */
	if (!ret)
		ret = cache_tag_assign_domain(domain, s->dev, IOMMU_NO_PASID);
	if (ret)
		put_domain_id(domain, info->iommu, hand_over);
	return ret;
}

void hitless_seam_vtd_swap_abort(struct hitless_vtd_swap *s, bool hand_over)
{
	struct device_domain_info *info = dev_iommu_priv_get(s->dev);
	struct dmar_domain *domain = to_dmar_domain(s->domain);

	cache_tag_unassign_domain(domain, s->dev, IOMMU_NO_PASID);
	put_domain_id(domain, info->iommu, hand_over);
}

/* A restored domain's device is off it: swapped, or its entry is cleared. */
static void leave_restored(struct device *dev, struct iommu_domain *old,
			   bool took_id)
{
	struct device_domain_info *info = dev_iommu_priv_get(dev);
	int id = hitless_domain_left(old, dev, took_id);

	if (id >= 0)
		ida_free(&info->iommu->domain_ida, id);
}

void intel_hitless_blocked(struct device *dev, struct iommu_domain *old)
{
	leave_restored(dev, old, false);
}

void hitless_seam_vtd_swap_end(struct hitless_vtd_swap *s, bool hand_over)
{
	struct device_domain_info *info = dev_iommu_priv_get(s->dev);
	struct dmar_domain *domain = to_dmar_domain(s->domain);
	struct dmar_domain *old = info->domain;

	if (s->old_domain->restored) {
		leave_restored(s->dev, s->old_domain, hand_over);
	} else {
		scoped_guard(spinlock_irqsave, &old->lock)
			list_del(&info->link);
		cache_tag_unassign_domain(old, s->dev, IOMMU_NO_PASID);
		put_domain_id(old, info->iommu, hand_over);
	}
	info->domain = domain;
	guard(spinlock_irqsave)(&domain->lock);
	list_add(&info->link, &domain->devices);
	/* Others may have changed all the domain's entries but this. */
	if (s->kind == HITLESS_VTD_CONTEXT)
		return;
	if (intel_domain_is_ss_paging(domain))
		intel_pasid_setup_dirty_tracking(info->iommu, s->dev,
						 IOMMU_NO_PASID,
						 domain->dirty_tracking);
	else if (domain->force_snooping)
		intel_pasid_setup_page_snoop_control(info->iommu, s->dev,
						     IOMMU_NO_PASID);
}

static int count_alias(struct pci_dev *pdev, u16 alias, void *count)
{
	++*(int *)count;
	return 0;
}

/* HITLESS_SWAP_* of the device's entry, if @domain is to follow @old. */
static u32 swap_facts(struct iommu_domain *domain, struct device *dev,
		      struct iommu_domain *old, const u64 *words)
{
	struct device_domain_info *info = dev_iommu_priv_get(dev);
	struct hitless_table table;
	int aliases = 0;
	u32 facts = 0;

	if (!words || !old || !info->domain_attached)
		facts |= HITLESS_SWAP_NO_ENTRY;
	if (old && old->restored)
		facts |= HITLESS_SWAP_RESTORED;
	else if (!info->domain || old != &info->domain->domain ||
		 intel_hitless_describe_table(old, &table))
		facts |= HITLESS_SWAP_UNKNOWN_TABLE;
	if (domain->iopf_handler || (old && old->iopf_handler))
		facts |= HITLESS_SWAP_PAGE_FAULTS;
	if (!dev_is_pci(dev) || dev_is_real_dma_subdevice(dev))
		return facts | HITLESS_SWAP_NOT_PCI;
	pci_for_each_dma_alias(to_pci_dev(dev), count_alias, &aliases);
	if (aliases > 1)
		facts |= HITLESS_SWAP_ALIASES;
	return facts;
}

/* The id in the entry and who of this kernel's domains uses it. */
static void describe_ids(struct hitless_vtd_swap *s, struct intel_iommu *iommu)
{
	struct iommu_domain_info *id;

	lockdep_assert_held(&iommu->did_lock);
	s->has_own_id = !!xa_load(&to_dmar_domain(s->domain)->iommu_array,
				  iommu->seq_id);
	s->old_id = s->kind == HITLESS_VTD_PASID ? s->old[1] & 0xffff :
						   s->old[1] >> 8 & 0xffff;
	if (s->facts & (HITLESS_SWAP_NO_ENTRY | HITLESS_SWAP_RESTORED |
			HITLESS_SWAP_UNKNOWN_TABLE))
		return;
	id = xa_load(&to_dmar_domain(s->old_domain)->iommu_array,
		     iommu->seq_id);
	s->old_users = id ? id->refcnt : 0;
}

/*
 * Attach @domain in place of @old with no moment at which a DMA faults.
 * -EOPNOTSUPP: not possible here, take the ordinary way, which blocks first.
 * Any other error: refused, and the device is where it was.
 *
 * Context: group->mutex serializes all writers of the device's entry.
 */
int intel_hitless_swap(struct iommu_domain *domain, struct device *dev,
		       struct iommu_domain *old)
{
	struct device_domain_info *info = dev_iommu_priv_get(dev);
	bool restored = old && old->restored;
	struct hitless_vtd_swap s = {
		.dev = dev,
		.domain = domain,
		.old_domain = old,
		.restored = restored ? hitless_domain_key(old) : 0,
		.register_base = info->iommu->reg_phys,
		.kind = sm_supported(info->iommu) ? HITLESS_VTD_PASID :
						    HITLESS_VTD_CONTEXT,
		.wide = system_has_cmpxchg128(),
		.coherent = ecap_coherent(info->iommu->ecap),
		.ats = info->ats_enabled,
	};
	u64 *words = intel_hitless_entry_words(&s);
	int ret;

	ret = paging_domain_compatible(domain, dev);
	if (ret)
		return restored ? ret : -EOPNOTSUPP;
	s.facts = swap_facts(domain, dev, old, words);
	if (words)
		memcpy(s.old, words, intel_hitless_entry_size(&s));
	guard(mutex)(&info->iommu->did_lock);
	describe_ids(&s, info->iommu);
	return hitless_vtd_swap(&s);
}
