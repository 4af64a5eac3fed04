// SPDX-License-Identifier: GPL-2.0-only
/*
 * The restored domain: the IOMMU domain made of tables that the previous
 * kernel left in hardware. It is immutable, only ever swapped for another one.
 * This file is for all drivers of units; what one of them has to do comes
 * through its struct hitless_iommu_ops. Who uses a restored domain, and what
 * becomes of a device that arrives, is known in drivers/hitless.
 */

#define pr_fmt(fmt)	"hitless: " fmt

#include <linux/hitless/iommu.h>
#include <linux/hitless/pci.h>
#include <linux/iommu.h>
#include <linux/kexec_handover.h>
#include <linux/list.h>
#include <linux/pci.h>
#include <linux/slab.h>

#include "iommu-pages.h"
#include "iommu-priv.h"

/**
 * struct hitless_domain - a restored domain
 * @domain: what the IOMMU core sees
 * @node: entry in restored_domains
 * @key: glue's name for it
 * @in_hwpt: a HWPT has been made of it
 */
struct hitless_domain {
	struct iommu_domain domain;
	struct list_head node;
	u64 key;
	bool in_hwpt;
};

/* Restored domains, and in each the field that changes. */
static LIST_HEAD(restored_domains);
static DEFINE_MUTEX(restored_lock);

static struct hitless_domain *to_hitless(struct iommu_domain *domain)
{
	return container_of(domain, struct hitless_domain, domain);
}

u64 hitless_domain_key(struct iommu_domain *domain)
{
	return to_hitless(domain)->key;
}

static int restored_attach_dev(struct iommu_domain *domain, struct device *dev,
			       struct iommu_domain *old)
{
	/* Nothing is ever attached to it again, back-out of a swap included. */
	return -EBUSY;
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
		if (hitless_iommu_users(restored->key))
			return;
		list_del(&restored->node);
	}
	hitless_iommu_release(restored->key);
	kfree(restored);
}

static const struct iommu_domain_ops restored_ops = {
	.attach_dev	= restored_attach_dev,
	.free		= restored_free,
};

static struct hitless_domain *restored_get(u64 key)
{
	struct hitless_domain *restored;

	lockdep_assert_held(&restored_lock);
	list_for_each_entry(restored, &restored_domains, node)
		if (restored->key == key)
			return restored;
	restored = kzalloc_obj(*restored);
	if (!restored)
		return NULL;
	restored->domain.type = IOMMU_DOMAIN_UNMANAGED;
	restored->domain.ops = &restored_ops;
	restored->domain.restored = true;
	restored->key = key;
	list_add(&restored->node, &restored_domains);
	return restored;
}

struct iommu_domain *hitless_domain_for_hwpt(u64 key)
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

int hitless_domain_left(struct iommu_domain *old, struct device *dev,
			bool took_id)
{
	if (!old || !old->restored)
		return -1;
	return hitless_iommu_left(to_pci_dev(dev), took_id);
}

static const struct hitless_iommu_ops *ops_of(struct device *dev)
{
	return dev_is_pci(dev) ? dev_iommu_ops(dev)->hitless : NULL;
}

/*
 * A device that may be running on what the previous kernel left must not go on
 * in a domain of this one. Who takes it next resets it, as after any kexec.
 */
static void stop_device(struct pci_dev *pdev)
{
	pci_clear_master(pdev);
	ops_of(&pdev->dev)->block(&pdev->dev);
	hitless_iommu_stopped(pdev);
}

static u32 arrival_facts(struct pci_dev *pdev, bool alone)
{
	u32 facts = alone ? HITLESS_ARRIVES_ALONE : 0;
	u16 command = 0;

	pci_read_config_word(pdev, PCI_COMMAND, &command);
	if (command & PCI_COMMAND_MASTER)
		facts |= HITLESS_ARRIVES_BUS_MASTER;
	if (ops_of(&pdev->dev)->is_blocked(&pdev->dev))
		facts |= HITLESS_ARRIVES_BLOCKED;
	return facts;
}

struct iommu_domain *hitless_domain_restore(struct device *dev, bool alone)
{
	const struct hitless_iommu_ops *ops = ops_of(dev);
	struct hitless_domain *restored;
	struct pci_dev *pdev;
	u64 key;

	if (!ops)
		return NULL;
	pdev = to_pci_dev(dev);
	switch (hitless_iommu_arrives(pci_domain_nr(pdev->bus),
				      pci_dev_id(pdev),
				      arrival_facts(pdev, alone), &key)) {
	case HITLESS_ARRIVES_ORDINARY:
		return NULL;
	case HITLESS_ARRIVES_STOPPED:
		stop_device(pdev);
		return NULL;
	case HITLESS_ARRIVES_RESTORED:
		break;
	}

	guard(mutex)(&restored_lock);
	restored = restored_get(key);
	if (!restored) {
		dev_err(dev, "hitless: no memory for its restored domain\n");
		stop_device(pdev);
		return NULL;
	}
	restored->domain.owner = dev_iommu_ops(dev);
	ops->take_over(dev);
	return &restored->domain;
}

int hitless_describe_table(struct iommu_domain *domain,
			   struct hitless_table *table)
{
	if (!domain->owner || !domain->owner->hitless || domain->restored)
		return -EOPNOTSUPP;
	return domain->owner->hitless->describe_table(domain, table);
}

int hitless_describe_device(struct device *dev, struct hitless_unit *unit,
			    struct hitless_attachment *out)
{
	if (!dev->iommu || !dev->iommu->iommu_dev || !ops_of(dev))
		return -ENODEV;
	return ops_of(dev)->describe_device(dev, unit, out);
}

int hitless_restore_iommu_pages(phys_addr_t phys, unsigned int order)
{
	struct folio *folio = kho_try_restore_folio(phys, order);

	if (!folio)
		return -ENOENT;
	folio_ioptdesc(folio)->incoherent = false;
	mod_node_page_state(folio_pgdat(folio), NR_IOMMU_PAGES,
			    folio_nr_pages(folio));
	lruvec_stat_mod_folio(folio, NR_SECONDARY_PAGETABLE,
			      folio_nr_pages(folio));
	return 0;
}

int hitless_seam_iommu_restore_page(u64 phys)
{
	return hitless_restore_iommu_pages(phys, 0);
}
