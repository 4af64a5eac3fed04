// SPDX-License-Identifier: GPL-2.0-only
/*
 * VT-d's facts for hitless: what a unit, a page table and an attachment look
 * like now.
 */

#include <linux/hitless/vtd.h>

#include "hitless.h"
#include "iommu.h"
#include "pasid.h"

/* What the unit is now. Any context. */
void intel_hitless_describe_unit(struct intel_iommu *iommu,
				 struct hitless_unit *unit)
{
	*unit = (struct hitless_unit) {
		.register_base = iommu->reg_phys,
		.segment = iommu->segment,
		.kind = HITLESS_KIND_VTD,
	};
	*intel_hitless_unit(unit) = (struct hitless_vtd_unit) {
		.root_table = iommu->root_entry ?
				virt_to_phys(iommu->root_entry) : 0,
		.live_root = readq(iommu->reg + DMAR_RTADDR_REG),
		.capability = iommu->cap,
		.extended_capability = iommu->ecap,
		.scalable = sm_supported(iommu),
		.translating = !!(readl(iommu->reg + DMAR_GSTS_REG) &
				  DMA_GSTS_TES),
	};
}

/* The domain's page table; -EOPNOTSUPP if it has none that can be described. */
int intel_hitless_describe_table(struct iommu_domain *domain,
				 struct hitless_table *table)
{
	struct dmar_domain *dmar = to_dmar_domain(domain);
	struct pt_iommu_x86_64_hw_info fs;
	struct pt_iommu_vtdss_hw_info ss;

	if (intel_domain_is_fs_paging(dmar)) {
		pt_iommu_x86_64_hw_info(&dmar->fspt, &fs);
		*table = (struct hitless_table) {
			.top = fs.gcr3_pt,
			.format = HITLESS_PT_X86_64,
			.levels = fs.levels,
			.incoherent = !!(dmar->fspt.x86_64_pt.common.features &
					 BIT(PT_FEAT_DMA_INCOHERENT)),
			.snoop = dmar->force_snooping,
		};
		return 0;
	}
	if (intel_domain_is_ss_paging(dmar)) {
		pt_iommu_vtdss_hw_info(&dmar->sspt, &ss);
		*table = (struct hitless_table) {
			.top = ss.ssptptr,
			.format = HITLESS_PT_VTDSS,
			.levels = ss.aw + 2,
			.incoherent = !!(dmar->sspt.vtdss_pt.common.features &
					 BIT(PT_FEAT_DMA_INCOHERENT)),
			.snoop = dmar->force_snooping,
			.tracks_dirty = dmar->dirty_tracking,
		};
		return 0;
	}
	return -EOPNOTSUPP;
}

/* Physical address of the context table that has the device's entry, or 0. */
static u64 context_table_of(struct device_domain_info *info)
{
	struct context_entry *context;

	guard(spinlock)(&info->iommu->lock);
	context = iommu_context_addr(info->iommu, info->bus, info->devfn, 0);
	return context ? virt_to_phys(context) & VTD_PAGE_MASK : 0;
}

static int describe_device(struct device *dev, struct hitless_unit *unit,
			   struct hitless_attachment *out)
{
	struct device_domain_info *info = dev_iommu_priv_get(dev);
	struct hitless_vtd_attachment *payload;
	struct iommu_domain_info *use;
	struct dmar_domain *domain;

	intel_hitless_describe_unit(info->iommu, unit);
	/* A reset may be taking the device off its domain and back just now. */
	domain = READ_ONCE(info->domain);
	if (!domain || dev_is_real_dma_subdevice(dev))
		return -ENODEV;
	guard(mutex)(&info->iommu->did_lock);
	use = xa_load(&domain->iommu_array, info->iommu->seq_id);
	if (!use)
		return -ENODEV;

	*out = (struct hitless_attachment) {
		.register_base = info->iommu->reg_phys,
		.segment = info->segment,
		.bdf = PCI_DEVID(info->bus, info->devfn),
		.domain_id = use->did,
	};
	payload = (struct hitless_vtd_attachment *)out->payload;
	payload->context_table = context_table_of(info);
	if (info->pasid_table && sm_supported(info->iommu)) {
		payload->pasid_directory =
			virt_to_phys(info->pasid_table->table);
		payload->max_pasid = info->pasid_table->max_pasid;
		payload->pasid_table = virt_to_phys(get_pasid_table_from_pde(
				info->pasid_table->table));
	}
	return intel_hitless_describe_table(&domain->domain, &out->table);
}

static bool is_blocked(struct device *dev)
{
	struct device_domain_info *info = dev_iommu_priv_get(dev);

	return info->iommu->flags & VTD_FLAG_BLOCKS_UNKNOWN;
}

/* The entry is present though no dmar_domain stands behind it. */
static void take_over(struct device *dev)
{
	struct device_domain_info *info = dev_iommu_priv_get(dev);

	info->domain_attached = true;
}

static void block(struct device *dev)
{
	take_over(dev);
	device_block_translation(dev);
}

const struct hitless_iommu_ops intel_hitless_ops = {
	.describe_device	= describe_device,
	.describe_table		= intel_hitless_describe_table,
	.is_blocked		= is_blocked,
	.take_over		= take_over,
	.block			= block,
};
