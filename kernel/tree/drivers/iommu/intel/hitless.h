/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * hitless in VT-d, for VT-d's own files: tables that live through a kexec, and
 * the swap of live entries. With CONFIG_HITLESS off nothing is left of it.
 */
#ifndef _INTEL_HITLESS_H_
#define _INTEL_HITLESS_H_

#include <linux/hitless/pci.h>
#include <linux/hitless/vtd.h>

struct device_domain_info;
struct dmar_domain;
struct intel_iommu;
struct irte;
struct pasid_entry;

/* iommu.c */
void iommu_set_root_entry(struct intel_iommu *iommu);

#ifdef CONFIG_HITLESS
extern const struct hitless_iommu_ops intel_hitless_ops;

static inline struct hitless_vtd_unit *
intel_hitless_unit(struct hitless_unit *unit)
{
	return (struct hitless_vtd_unit *)unit->payload;
}

/* hitless_describe.c */
void intel_hitless_describe_unit(struct intel_iommu *iommu,
				 struct hitless_unit *unit);
int intel_hitless_describe_table(struct iommu_domain *domain,
				 struct hitless_table *table);
/* hitless_adopt.c */
void intel_hitless_adopt(struct intel_iommu *iommu);
int intel_hitless_adopt_pasid_table(struct device *dev);
bool intel_hitless_stays_on(struct intel_iommu *iommu);
bool intel_hitless_shutdown(struct intel_iommu *iommu);
/* hitless_irq.c */
struct irte *intel_hitless_adopt_irq_table(struct intel_iommu *iommu,
					   u64 wanted);
void intel_hitless_clear_irq_table(struct intel_iommu *iommu);
/* hitless_swap.c */
void intel_hitless_blocked(struct device *dev, struct iommu_domain *old);
int intel_hitless_swap(struct iommu_domain *domain, struct device *dev,
		       struct iommu_domain *old);
/* hitless_entry.c */
u64 *intel_hitless_entry_words(const struct hitless_vtd_swap *s);
size_t intel_hitless_entry_size(const struct hitless_vtd_swap *s);
int intel_hitless_build_entry(struct device_domain_info *info,
			      struct dmar_domain *domain, u16 did,
			      struct hitless_vtd_swap *s);
/* pasid.c */
int intel_pasid_build_entry(struct intel_iommu *iommu,
			    struct dmar_domain *domain, u16 did,
			    const struct hitless_table *table,
			    struct pasid_entry *pte);
#else
static inline void intel_hitless_adopt(struct intel_iommu *iommu) { }
static inline int intel_hitless_adopt_pasid_table(struct device *dev)
{
	return 0;
}
static inline bool intel_hitless_stays_on(struct intel_iommu *iommu)
{
	return false;
}
static inline bool intel_hitless_shutdown(struct intel_iommu *iommu)
{
	return false;
}
static inline struct irte *
intel_hitless_adopt_irq_table(struct intel_iommu *iommu, u64 wanted)
{
	return NULL;
}
static inline void intel_hitless_blocked(struct device *dev,
					 struct iommu_domain *old) { }
static inline int intel_hitless_swap(struct iommu_domain *domain,
				     struct device *dev,
				     struct iommu_domain *old)
{
	return -EOPNOTSUPP;
}
#endif

#endif /* _INTEL_HITLESS_H_ */
