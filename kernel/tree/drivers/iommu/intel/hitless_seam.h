/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * VT-d's seam to hitless, for VT-d's own files: tables that live through a
 * kexec, and their replacement. With CONFIG_HITLESS off nothing is left of it.
 */
#ifndef _INTEL_HITLESS_SEAM_H_
#define _INTEL_HITLESS_SEAM_H_

#include <linux/hitless.h>

struct dmar_domain;
struct intel_iommu;
struct pasid_entry;

#ifdef CONFIG_HITLESS
void intel_hitless_describe_unit(struct intel_iommu *iommu,
				 struct hitless_unit *unit);
int intel_hitless_describe_table(struct iommu_domain *domain,
				 struct hitless_table *table);
void intel_hitless_adopt(struct intel_iommu *iommu);
int intel_hitless_adopt_pasid_table(struct device *dev);
void intel_hitless_shutdown(struct intel_iommu *iommu);
struct iommu_domain *intel_hitless_domain_restore(struct device *dev,
						  bool alone);
void intel_hitless_blocked(struct device *dev, struct iommu_domain *old);
int intel_hitless_replace(struct iommu_domain *domain, struct device *dev,
			  struct iommu_domain *old);
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
static inline void intel_hitless_shutdown(struct intel_iommu *iommu) { }
#define intel_hitless_domain_restore NULL
static inline void intel_hitless_blocked(struct device *dev,
					 struct iommu_domain *old) { }
static inline int intel_hitless_replace(struct iommu_domain *domain,
					struct device *dev,
					struct iommu_domain *old)
{
	return -EOPNOTSUPP;
}
#endif

#endif /* _INTEL_HITLESS_SEAM_H_ */
