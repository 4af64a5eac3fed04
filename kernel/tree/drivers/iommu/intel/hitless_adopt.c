// SPDX-License-Identifier: GPL-2.0-only
/*
 * VT-d units go on with the tables that the previous kernel left in them, and
 * are left so for the next one.
 */

#define pr_fmt(fmt)	"hitless: " fmt

#include <linux/hitless/vtd.h>
#include <linux/kexec_handover.h>

#include "hitless.h"
#include "iommu.h"
#include "pasid.h"

/* Give the domain ids in the unit's tables to nobody else, all or none. */
static int __init keep_domain_ids(struct intel_iommu *iommu,
				  const struct hitless_vtd_adopted *adopted)
{
	int ret;
	u32 i;

	for (i = 0; i < adopted->count; i++) {
		ret = ida_alloc_range(&iommu->domain_ida, adopted->ids[i],
				      adopted->ids[i], GFP_KERNEL);
		if (ret >= 0)
			continue;
		pr_err("domain id %u of unit at %#llx cannot be kept: %d\n",
		       adopted->ids[i], iommu->reg_phys, ret);
		while (i--)
			ida_free(&iommu->domain_ida, adopted->ids[i]);
		return ret;
	}
	return 0;
}

/*
 * Boot: does the unit go on with tables of the previous kernel? Then the root
 * table is set here and translation stays on. If they are refused it stays on
 * too, with the empty root table that the caller will make: nothing that the
 * previous kernel left running may reach memory then.
 */
void __init intel_hitless_adopt(struct intel_iommu *iommu)
{
	struct hitless_vtd_adopted adopted = {};
	struct hitless_vtd_unit *payload;
	struct hitless_unit unit;
	int ret;

	intel_hitless_describe_unit(iommu, &unit);
	payload = intel_hitless_unit(&unit);
	/* The mode cannot be changed while translation is on: it stays. */
	if (payload->translating && is_kho_boot() && ecap_smts(iommu->ecap)) {
		intel_iommu_sm = !!(payload->live_root & DMA_RTADDR_SMT);
		payload->scalable = intel_iommu_sm;
	}
	ret = hitless_vtd_adopt(&unit, &adopted);
	if (!ret)
		return;
	if (ret > 0 && keep_domain_ids(iommu, &adopted)) {
		hitless_vtd_refuse(iommu->reg_phys);
		ret = -ENOSPC;
	}
	kfree(adopted.ids);
	iommu->flags &= ~VTD_FLAG_TRANS_PRE_ENABLED;
	if (ret < 0)
		iommu->flags |= VTD_FLAG_BLOCKS_UNKNOWN;
	else if (adopted.root_table)
		iommu->root_entry = phys_to_virt(adopted.root_table);
}

/*
 * Device probe, scalable mode: take the PASID directory that hardware uses.
 * 1: done, 0: there is none, or -ENOMEM.
 */
int intel_hitless_adopt_pasid_table(struct device *dev)
{
	struct device_domain_info *info = dev_iommu_priv_get(dev);
	struct hitless_vtd_attachment arrived;
	struct pasid_table *table;

	if (!hitless_vtd_arrived(info->segment,
				 PCI_DEVID(info->bus, info->devfn),
				 &arrived) || !arrived.pasid_directory)
		return 0;

	table = kzalloc_obj(*table);
	if (!table)
		return -ENOMEM;
	table->table = phys_to_virt(arrived.pasid_directory);
	table->max_pasid = arrived.max_pasid;
	info->pasid_table = table;
	return 1;
}

/* Boot, of a kernel that does not use the units: may it be switched off? */
bool intel_hitless_stays_on(struct intel_iommu *iommu)
{
	struct hitless_unit unit;

	intel_hitless_describe_unit(iommu, &unit);
	return hitless_vtd_stays_on(&unit);
}

/*
 * Shutdown, interrupts off, one CPU: if anything goes on, every unit does, with
 * nothing in its tables but what outgoing devices need.
 */
bool intel_hitless_shutdown(struct intel_iommu *iommu)
{
	struct hitless_unit unit;
	bool preserved;
	u64 root;

	intel_hitless_describe_unit(iommu, &unit);
	root = hitless_vtd_leave(&unit, &preserved);
	if (preserved)
		intel_hitless_clear_irq_table(iommu);
	/* This kernel has not set up a unit that it ignores. */
	if (!root || !iommu->root_entry)
		return false;
	if (!ecap_coherent(iommu->ecap))
		wbinvd();
	/* Another processor may have written it, which has been stopped. */
	__iommu_flush_cache(iommu, phys_to_virt(root), VTD_PAGE_SIZE);
	iommu_flush_write_buffer(iommu);
	if (root != virt_to_phys(iommu->root_entry)) {
		iommu->root_entry = phys_to_virt(root);
		iommu_set_root_entry(iommu);
	}
	iommu->flush.flush_context(iommu, 0, 0, 0, DMA_CCMD_GLOBAL_INVL);
	if (sm_supported(iommu))
		qi_flush_pasid_cache(iommu, 0, QI_PC_GLOBAL, 0);
	iommu->flush.flush_iotlb(iommu, 0, 0, 0, DMA_TLB_GLOBAL_FLUSH);
	return true;
}
