// SPDX-License-Identifier: GPL-2.0-only
/*
 * VT-d's seam to hitless: what the unit and the device look like now, the
 * single steps of a replacement, and the restored domain: the IOMMU domain
 * made of tables that the previous kernel left in hardware. It is immutable,
 * only ever replaced. What to do is decided in drivers/hitless.
 */

#define pr_fmt(fmt)	"hitless: " fmt

#include <linux/hitless.h>
#include <linux/kexec_handover.h>
#include <linux/pci-ats.h>

#include "../iommu-pages.h"
#include "../iommu-priv.h"
#include "hitless_seam.h"
#include "iommu.h"
#include "pasid.h"

/**
 * struct hitless_domain - a restored domain
 * @domain: what the IOMMU core sees
 * @node: entry in restored_domains
 * @key: glue's name for it
 * @iommu: the unit that has its domain id
 * @devices: devices whose entries point to its tables
 * @did: its domain id
 * @owns_did: the domain id has not been handed over
 * @in_hwpt: a HWPT has been made of it
 */
struct hitless_domain {
	struct iommu_domain domain;
	struct list_head node;
	u64 key;
	struct intel_iommu *iommu;
	unsigned int devices;
	u16 did;
	bool owns_did;
	bool in_hwpt;
};

/* Restored domains, and in each the fields that change. */
static LIST_HEAD(restored_domains);
static DEFINE_MUTEX(restored_lock);

static struct hitless_domain *to_hitless(struct iommu_domain *domain)
{
	return container_of(domain, struct hitless_domain, domain);
}

/* What the unit is now. Any context. */
void intel_hitless_describe_unit(struct intel_iommu *iommu,
				 struct hitless_unit *unit)
{
	*unit = (struct hitless_unit) {
		.register_base = iommu->reg_phys,
		.segment = iommu->segment,
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
			.format = HITLESS_TABLE_FIRST_STAGE,
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
			.format = HITLESS_TABLE_SECOND_STAGE,
			.levels = ss.aw + 2,
			.incoherent = !!(dmar->sspt.vtdss_pt.common.features &
					 BIT(PT_FEAT_DMA_INCOHERENT)),
			.snoop = dmar->force_snooping,
		};
		return 0;
	}
	return -EOPNOTSUPP;
}

int hitless_seam_vtd_table(struct iommu_domain *domain,
			   struct hitless_table *table)
{
	if (domain->owner != &intel_iommu_ops || domain->restored)
		return -EOPNOTSUPP;
	return intel_hitless_describe_table(domain, table);
}

/* Physical address of the context table that has the device's entry, or 0. */
static u64 context_table_of(struct device_domain_info *info)
{
	struct context_entry *context;

	guard(spinlock)(&info->iommu->lock);
	context = iommu_context_addr(info->iommu, info->bus, info->devfn, 0);
	return context ? virt_to_phys(context) & VTD_PAGE_MASK : 0;
}

/*
 * How a VT-d device is attached. -ENODEV if no VT-d unit translates for it or
 * nothing is attached. The caller keeps the device's HWPT from going away.
 */
int hitless_seam_vtd_describe(struct device *dev, struct hitless_unit *unit,
			      struct hitless_attachment *out)
{
	struct device_domain_info *info;
	struct iommu_domain_info *use;
	struct dmar_domain *domain;

	if (!dev->iommu || !dev->iommu->iommu_dev ||
	    dev_iommu_ops(dev) != &intel_iommu_ops)
		return -ENODEV;
	info = dev_iommu_priv_get(dev);
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
		.context_table = context_table_of(info),
		.segment = info->segment,
		.bdf = PCI_DEVID(info->bus, info->devfn),
		.domain_id = use->did,
	};
	if (info->pasid_table && sm_supported(info->iommu)) {
		out->pasid_directory = virt_to_phys(info->pasid_table->table);
		out->max_pasid = info->pasid_table->max_pasid;
		out->pasid_table = virt_to_phys(get_pasid_table_from_pde(
				info->pasid_table->table));
	}
	return intel_hitless_describe_table(&domain->domain, &out->table);
}

int hitless_seam_iommu_restore_page(u64 phys)
{
	struct folio *folio = kho_is_restorable(phys, 0) ?
				      kho_restore_folio(phys) : NULL;

	if (!folio)
		return -ENOENT;
	folio_ioptdesc(folio)->incoherent = false;
	mod_node_page_state(folio_pgdat(folio), NR_IOMMU_PAGES,
			    folio_nr_pages(folio));
	lruvec_stat_mod_folio(folio, NR_SECONDARY_PAGETABLE,
			      folio_nr_pages(folio));
	return 0;
}

static void __init drop_domain_ids(struct intel_iommu *iommu, u32 count)
{
	while (count--)
		ida_free(&iommu->domain_ida,
			 hitless_vtd_domain_id(iommu->reg_phys, count));
}

/*
 * Give the domain ids that are recorded for the unit to nobody else: how many
 * there are, or an error.
 */
static int __init keep_domain_ids(struct intel_iommu *iommu)
{
	int did, ret;
	u32 i;

	for (i = 0; (did = hitless_vtd_domain_id(iommu->reg_phys, i)) >= 0; i++) {
		ret = ida_alloc_range(&iommu->domain_ida, did, did, GFP_KERNEL);
		if (ret >= 0)
			continue;
		pr_err("domain id %d of unit at %#llx cannot be kept: %d\n",
		       did, iommu->reg_phys, ret);
		drop_domain_ids(iommu, i);
		return ret;
	}
	return i;
}

/*
 * Boot: does the unit go on with tables of the previous kernel? Then the root
 * table is set here and translation stays on. If they are refused it stays on
 * too, with the empty root table that the caller will make: nothing that the
 * previous kernel left running may reach memory then.
 */
void __init intel_hitless_adopt(struct intel_iommu *iommu)
{
	struct hitless_unit unit;
	int ret, ids;
	u64 root;

	intel_hitless_describe_unit(iommu, &unit);
	/* The mode cannot be changed while translation is on: it stays. */
	if (unit.translating && is_kho_boot() && ecap_smts(iommu->ecap)) {
		intel_iommu_sm = !!(unit.live_root & DMA_RTADDR_SMT);
		unit.scalable = intel_iommu_sm;
	}
	ids = keep_domain_ids(iommu);
	if (ids < 0)
		hitless_vtd_refuse(iommu->reg_phys);
	ret = ids < 0 ? ids : hitless_vtd_adopt(&unit, &root);
	if (ret <= 0 && ids > 0)
		drop_domain_ids(iommu, ids);
	if (!ret)
		return;
	iommu->flags &= ~VTD_FLAG_TRANS_PRE_ENABLED;
	if (ret > 0)
		iommu->root_entry = phys_to_virt(root);
	else
		iommu->flags |= VTD_FLAG_BLOCKS_UNKNOWN;
}

/*
 * Device probe, scalable mode: take the PASID directory that hardware uses.
 * 1: done, 0: there is none, or -ENOMEM.
 */
int intel_hitless_adopt_pasid_table(struct device *dev)
{
	struct device_domain_info *info = dev_iommu_priv_get(dev);
	struct hitless_attachment arrived;
	struct pasid_table *table;

	if (hitless_leaves_out("pasid_table") ||
	    hitless_vtd_incoming(info->segment,
				 PCI_DEVID(info->bus, info->devfn),
				 &arrived) <= 0 || !arrived.pasid_directory)
		return 0;

	table = kzalloc_obj(*table);
	if (!table)
		return -ENOMEM;
	table->table = phys_to_virt(arrived.pasid_directory);
	table->max_pasid = arrived.max_pasid;
	info->pasid_table = table;
	return 1;
}

/* Shutdown, interrupts off, one CPU: leave only what outgoing devices need. */
void intel_hitless_shutdown(struct intel_iommu *iommu)
{
	struct hitless_unit unit;

	intel_hitless_describe_unit(iommu, &unit);
	hitless_vtd_scrub(&unit);
	if (!ecap_coherent(iommu->ecap))
		wbinvd();
	iommu_flush_write_buffer(iommu);
	iommu->flush.flush_context(iommu, 0, 0, 0, DMA_CCMD_GLOBAL_INVL);
	if (sm_supported(iommu))
		qi_flush_pasid_cache(iommu, 0, QI_PC_GLOBAL, 0);
	iommu->flush.flush_iotlb(iommu, 0, 0, 0, DMA_TLB_GLOBAL_FLUSH);
}

/*
 * The restored domain.
 */

static int restored_attach_dev(struct iommu_domain *domain, struct device *dev,
			       struct iommu_domain *old)
{
	/* Nothing is ever attached to it again, back-out of a swap included. */
	return -EBUSY;
}

/* A device's entry points elsewhere now and the caches have been flushed. */
static void restored_drop_device(struct hitless_domain *restored,
				 struct device_domain_info *info, bool took_did)
{
	lockdep_assert_held(&restored_lock);
	if (took_did)
		restored->owns_did = false;
	restored->devices--;
	hitless_device_left(info->segment, PCI_DEVID(info->bus, info->devfn));
}

static void restored_free(struct iommu_domain *domain)
{
	struct hitless_domain *restored = to_hitless(domain);

	scoped_guard(mutex, &restored_lock) {
		restored->in_hwpt = false;
		/*
		 * Hardware still walks the tables, so they stay and so does
		 * this, for the next HWPT that is made of it.
		 */
		if (restored->devices || hitless_domain_devices(restored->key))
			return;
		list_del(&restored->node);
	}
	if (restored->owns_did && restored->iommu)
		ida_free(&restored->iommu->domain_ida, restored->did);
	hitless_domain_release(restored->key);
	kfree(restored);
}

static const struct iommu_domain_ops restored_ops = {
	.attach_dev	= restored_attach_dev,
	.free		= restored_free,
};

static struct hitless_domain *restored_find(u64 key)
{
	struct hitless_domain *restored;

	lockdep_assert_held(&restored_lock);
	list_for_each_entry(restored, &restored_domains, node)
		if (restored->key == key)
			return restored;
	return NULL;
}

static struct hitless_domain *restored_get(u64 key)
{
	struct hitless_domain *restored = restored_find(key);

	if (restored)
		return restored;
	restored = kzalloc_obj(*restored);
	if (!restored)
		return NULL;
	restored->domain.type = IOMMU_DOMAIN_UNMANAGED;
	restored->domain.ops = &restored_ops;
	restored->domain.owner = &intel_iommu_ops;
	restored->domain.restored = true;
	restored->key = key;
	list_add(&restored->node, &restored_domains);
	return restored;
}

/* The restored domain with this key, for a HWPT, which there is one of. */
struct iommu_domain *hitless_seam_vtd_domain(u64 key)
{
	struct hitless_domain *restored;

	guard(mutex)(&restored_lock);
	restored = restored_get(key);
	if (!restored)
		return ERR_PTR(-ENOMEM);
	if (restored->in_hwpt)
		return ERR_PTR(-EEXIST);
	restored->in_hwpt = true;
	return &restored->domain;
}

/*
 * A device that may be running on what the previous kernel left must not go on
 * in a domain of this one. Who takes it next resets it, as after any kexec.
 */
static void stop_device(struct device *dev, const char *why)
{
	struct device_domain_info *info = dev_iommu_priv_get(dev);

	dev_err(dev, "hitless: %s: stopped\n", why);
	pci_clear_master(to_pci_dev(dev));
	/* There may be an entry though no dmar_domain stands behind it. */
	info->domain_attached = true;
	device_block_translation(dev);
	hitless_device_stopped(info->segment,
			       PCI_DEVID(info->bus, info->devfn));
}

static bool is_bus_master(struct pci_dev *pdev)
{
	u16 command = 0;

	pci_read_config_word(pdev, PCI_COMMAND, &command);
	return command & PCI_COMMAND_MASTER;
}

/*
 * Device probe: the domain the device arrived with, in place of the default
 * domain, or NULL.
 */
struct iommu_domain *intel_hitless_domain_restore(struct device *dev, bool alone)
{
	struct device_domain_info *info = dev_iommu_priv_get(dev);
	struct hitless_attachment arrived;
	struct hitless_domain *restored;
	int ret;

	if (!dev_is_pci(dev) || hitless_leaves_out("default_domain"))
		return NULL;
	ret = hitless_vtd_incoming(info->segment,
				   PCI_DEVID(info->bus, info->devfn), &arrived);
	if (ret < 0) {
		stop_device(dev, "what it arrived with is refused");
		return NULL;
	}
	if (!ret) {
		/* Not a bridge above a device that goes on, behind another. */
		if ((info->iommu->flags & VTD_FLAG_BLOCKS_UNKNOWN) &&
		    is_bus_master(to_pci_dev(dev)) &&
		    !hitless_dev_keeps(dev, HITLESS_KEEP_STATE))
			stop_device(dev, "its unit is blocked");
		return NULL;
	}
	if (!alone) {
		stop_device(dev, "it shares its IOMMU group now");
		return NULL;
	}

	guard(mutex)(&restored_lock);
	restored = restored_get(arrived.domain);
	if (!restored) {
		stop_device(dev, "no memory for its restored domain");
		return NULL;
	}
	/* The entry is present though no dmar_domain stands behind it. */
	info->domain_attached = true;
	if (!restored->iommu) {
		restored->iommu = info->iommu;
		restored->did = arrived.domain_id;
		restored->owns_did = true;
	}
	restored->devices++;
	dev_info(dev, "hitless: restored domain attached, domain id %u\n",
		 arrived.domain_id);
	return &restored->domain;
}

/* A restored domain's device is being blocked: its entry is cleared already. */
void intel_hitless_blocked(struct device *dev, struct iommu_domain *old)
{
	if (!old || !old->restored)
		return;
	guard(mutex)(&restored_lock);
	restored_drop_device(to_hitless(old), dev_iommu_priv_get(dev), false);
}

/*
 * Replacing a live entry.
 */

static u64 *entry_words(const struct hitless_replace *r)
{
	struct device_domain_info *info = dev_iommu_priv_get(r->dev);
	struct pasid_entry *table;

	if (r->kind == HITLESS_ENTRY_CONTEXT)
		return (u64 *)iommu_context_addr(info->iommu, info->bus,
						 info->devfn, 0);
	table = info->pasid_table ?
		get_pasid_table_from_pde(info->pasid_table->table) : NULL;
	return table ? table[IOMMU_NO_PASID].val : NULL;
}

static size_t entry_size(const struct hitless_replace *r)
{
	return r->kind == HITLESS_ENTRY_CONTEXT ? sizeof(struct context_entry) :
						  sizeof(struct pasid_entry);
}

/*
 * Others change bits of a present entry under the unit's lock (dirty tracking).
 * -EAGAIN: they have, and the plan does not hold any more.
 */
int hitless_seam_vtd_store64(const struct hitless_replace *r, u32 word, u64 val)
{
	struct device_domain_info *info = dev_iommu_priv_get(r->dev);
	u64 *words = entry_words(r);

	guard(spinlock)(&info->iommu->lock);
	if (memcmp(words, r->old, entry_size(r)))
		return -EAGAIN;
	WRITE_ONCE(words[word], val);
	if (!r->coherent)
		clflush_cache_range(words, entry_size(r));
	return 0;
}

int hitless_seam_vtd_exchange128(const struct hitless_replace *r, u32 word,
				 u64 lo, u64 hi)
{
	struct device_domain_info *info = dev_iommu_priv_get(r->dev);
	u128 old = ((u128)r->old[word + 1] << 64) | r->old[word];
	u128 new = ((u128)hi << 64) | lo;
	u64 *words = entry_words(r);

	guard(spinlock)(&info->iommu->lock);
	if (memcmp(words, r->old, entry_size(r)) ||
	    !arch_try_cmpxchg128((u128 *)&words[word], &old, new))
		return -EAGAIN;
	if (!r->coherent)
		clflush_cache_range(words, entry_size(r));
	return 0;
}

void hitless_seam_vtd_flush_context(const struct hitless_replace *r, u16 did)
{
	struct device_domain_info *info = dev_iommu_priv_get(r->dev);

	info->iommu->flush.flush_context(info->iommu, did,
					 PCI_DEVID(info->bus, info->devfn),
					 DMA_CCMD_MASK_NOBIT,
					 DMA_CCMD_DEVICE_INVL);
}

void hitless_seam_vtd_flush_pasid(const struct hitless_replace *r, u16 did)
{
	struct device_domain_info *info = dev_iommu_priv_get(r->dev);

	qi_flush_pasid_cache(info->iommu, did, QI_PC_PASID_SEL, IOMMU_NO_PASID);
}

void hitless_seam_vtd_flush_iotlb(const struct hitless_replace *r, u16 did)
{
	struct device_domain_info *info = dev_iommu_priv_get(r->dev);

	if (r->kind == HITLESS_ENTRY_PASID)
		qi_flush_piotlb_all(info->iommu, did, IOMMU_NO_PASID);
	info->iommu->flush.flush_iotlb(info->iommu, did, 0, 0,
				       DMA_TLB_DSI_FLUSH);
}

void hitless_seam_vtd_flush_device(const struct hitless_replace *r)
{
	struct device_domain_info *info = dev_iommu_priv_get(r->dev);

	if (!info->ats_enabled || !pci_device_is_present(to_pci_dev(r->dev)))
		return;
	qi_flush_dev_iotlb(info->iommu, PCI_DEVID(info->bus, info->devfn),
			   info->pfsid, info->ats_qdep, 0, MAX_AGAW_PFN_WIDTH);
	quirk_extra_dev_tlb_flush(info, 0, MAX_AGAW_PFN_WIDTH, IOMMU_NO_PASID,
				  info->ats_qdep);
}

/* The words that the entry of @info shall have for @domain under @did. */
static int build_entry(struct device_domain_info *info,
		       struct dmar_domain *domain, u16 did,
		       struct hitless_replace *r)
{
	struct context_entry context = {};
	struct hitless_table table;
	int ret;

	ret = intel_hitless_describe_table(&domain->domain, &table);
	if (ret)
		return ret;
	if (r->kind == HITLESS_ENTRY_PASID)
		return intel_pasid_build_entry(info->iommu, domain, did, &table,
					       (struct pasid_entry *)r->new);
	if (table.format != HITLESS_TABLE_SECOND_STAGE)
		return -EINVAL;
	context_set_domain_id(&context, did);
	context_set_address_root(&context, table.top);
	context_set_address_width(&context, table.levels - 2);
	context_set_translation_type(&context, info->ats_supported ?
				     CONTEXT_TT_DEV_IOTLB :
				     CONTEXT_TT_MULTI_LEVEL);
	context_set_fault_enable(&context);
	context_set_present(&context);
	r->new[0] = context.lo;
	r->new[1] = context.hi;
	return 0;
}

static int count_alias(struct pci_dev *pdev, u16 alias, void *count)
{
	++*(int *)count;
	return 0;
}

/* HITLESS_REPLACE_* of the device's entry, if @domain is to follow @old. */
static u32 replace_facts(struct iommu_domain *domain, struct device *dev,
			 struct iommu_domain *old, const u64 *words)
{
	struct device_domain_info *info = dev_iommu_priv_get(dev);
	struct hitless_table table;
	int aliases = 0;
	u32 facts = 0;

	if (!words || !old || !info->domain_attached)
		facts |= HITLESS_REPLACE_NO_ENTRY;
	if (old && old->restored)
		facts |= HITLESS_REPLACE_RESTORED;
	else if (!info->domain || old != &info->domain->domain ||
		 intel_hitless_describe_table(old, &table))
		facts |= HITLESS_REPLACE_UNKNOWN_TABLE;
	if (domain->iopf_handler || (old && old->iopf_handler))
		facts |= HITLESS_REPLACE_PAGE_FAULTS;
	if (!dev_is_pci(dev) || dev_is_real_dma_subdevice(dev))
		return facts | HITLESS_REPLACE_NOT_PCI;
	pci_for_each_dma_alias(to_pci_dev(dev), count_alias, &aliases);
	if (aliases > 1)
		facts |= HITLESS_REPLACE_ALIASES;
	return facts;
}

/*
 * Write the entry for @domain, which has an id on the unit, in place of what
 * is there. On failure the entry is as it was.
 */
static int rewrite_entry(struct hitless_replace *r, struct dmar_domain *domain)
{
	struct device_domain_info *info = dev_iommu_priv_get(r->dev);
	int ret;

	ret = build_entry(info, domain, domain_id_iommu(domain, info->iommu), r);
	if (ret)
		return ret;
	/* Before the switch: from then on unmapping must flush for us. */
	ret = cache_tag_assign_domain(domain, r->dev, IOMMU_NO_PASID);
	if (ret)
		return ret;
	ret = hitless_vtd_replace(r);
	if (ret)
		cache_tag_unassign_domain(domain, r->dev, IOMMU_NO_PASID);
	return ret;
}

/* The device has left @old for good: software follows the hardware. */
static void leave_old(struct device_domain_info *info, struct iommu_domain *old,
		      bool took_did)
{
	struct dmar_domain *dmar = info->domain;

	if (old->restored) {
		guard(mutex)(&restored_lock);
		restored_drop_device(to_hitless(old), info, took_did);
		return;
	}
	scoped_guard(spinlock_irqsave, &dmar->lock)
		list_del(&info->link);
	cache_tag_unassign_domain(dmar, info->dev, IOMMU_NO_PASID);
}

/*
 * The id of @old on the unit and who uses it. Devices on a restored domain that
 * have not been probed yet count: their entries carry the id too.
 */
static int old_domain_id(struct iommu_domain *old, struct intel_iommu *iommu,
			 struct hitless_id_use *use)
{
	struct iommu_domain_info *info;
	struct hitless_domain *restored;

	lockdep_assert_held(&iommu->did_lock);
	if (!old->restored) {
		info = xa_load(&to_dmar_domain(old)->iommu_array,
			       iommu->seq_id);
		use->users = info ? info->refcnt : 0;
		return info ? info->did : 0;
	}
	restored = to_hitless(old);
	guard(mutex)(&restored_lock);
	if (restored->owns_did && restored->iommu == iommu)
		use->users = max(restored->devices,
				 hitless_domain_devices(restored->key));
	return restored->did;
}

/*
 * Replace under the domain id of @old, which @domain gets. did_lock is held
 * throughout: meanwhile both have the id, and nobody else may use either.
 * -ESTALE: others use the id too, or @domain has one.
 */
static int replace_under_same_id(struct hitless_replace *r,
				 struct dmar_domain *domain,
				 struct iommu_domain *old)
{
	struct device_domain_info *info = dev_iommu_priv_get(r->dev);
	struct intel_iommu *iommu = info->iommu;
	struct hitless_id_use use = {};
	struct iommu_domain_info *id;
	int did, ret;

	guard(mutex)(&iommu->did_lock);
	did = old_domain_id(old, iommu, &use);
	use.has_own = !!xa_load(&domain->iommu_array, iommu->seq_id);
	if (!hitless_vtd_hands_over(&use))
		return -ESTALE;

	id = kzalloc_obj(*id);
	if (!id)
		return -ENOMEM;
	id->refcnt = 1;
	id->did = did;
	id->iommu = iommu;
	ret = xa_err(xa_store(&domain->iommu_array, iommu->seq_id, id,
			      GFP_KERNEL));
	if (!ret)
		ret = rewrite_entry(r, domain);
	if (ret) {
		xa_erase(&domain->iommu_array, iommu->seq_id);
		kfree(id);
		return ret;
	}
	leave_old(info, old, true);
	if (!old->restored)
		kfree(xa_erase(&to_dmar_domain(old)->iommu_array,
			       iommu->seq_id));
	return 0;
}

/* Replace under an id of @domain's own. */
static int replace_under_own_id(struct hitless_replace *r,
				struct dmar_domain *domain,
				struct iommu_domain *old)
{
	struct device_domain_info *info = dev_iommu_priv_get(r->dev);
	int ret;

	ret = domain_attach_iommu(domain, info->iommu);
	if (ret)
		return ret;
	ret = rewrite_entry(r, domain);
	if (ret) {
		domain_detach_iommu(domain, info->iommu);
		return ret;
	}
	leave_old(info, old, false);
	if (!old->restored)
		domain_detach_iommu(to_dmar_domain(old), info->iommu);
	return 0;
}

/*
 * Attach @domain in place of @old with no moment at which a DMA faults.
 * -EOPNOTSUPP: not possible here, take the ordinary way, which blocks first.
 * Any other error: refused, and the device is where it was.
 *
 * Context: group->mutex serializes all writers of the device's entry.
 */
int intel_hitless_replace(struct iommu_domain *domain, struct device *dev,
			  struct iommu_domain *old)
{
	struct device_domain_info *info = dev_iommu_priv_get(dev);
	struct dmar_domain *dmar = to_dmar_domain(domain);
	struct hitless_replace r = {
		.dev = dev,
		.kind = sm_supported(info->iommu) ? HITLESS_ENTRY_PASID :
						    HITLESS_ENTRY_CONTEXT,
		.wide = system_has_cmpxchg128(),
		.coherent = ecap_coherent(info->iommu->ecap),
		.ats = info->ats_enabled,
	};
	u64 *words = entry_words(&r);
	int ret;

	ret = hitless_vtd_may_replace(replace_facts(domain, dev, old, words));
	if (ret)
		return ret;
	ret = paging_domain_compatible(domain, dev);
	if (ret)
		return ret;
	memcpy(r.old, words, entry_size(&r));

	ret = replace_under_same_id(&r, dmar, old);
	if (ret == -ESTALE)
		ret = replace_under_own_id(&r, dmar, old);
	if (ret) {
		/* Two ordinary domains can still change hands with a pause. */
		return old->restored ? ret : -EOPNOTSUPP;
	}
	info->domain = dmar;
	guard(spinlock_irqsave)(&dmar->lock);
	list_add(&info->link, &dmar->devices);
	/* Others may have changed all the domain's entries but this. */
	if (!sm_supported(info->iommu))
		return 0;
	if (intel_domain_is_ss_paging(dmar))
		intel_pasid_setup_dirty_tracking(info->iommu, dev,
						 IOMMU_NO_PASID,
						 dmar->dirty_tracking);
	else if (dmar->force_snooping)
		intel_pasid_setup_page_snoop_control(info->iommu, dev,
						     IOMMU_NO_PASID);
	return 0;
}
