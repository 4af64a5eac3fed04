/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * iommufd's seam to hitless, for iommufd's own files. With CONFIG_HITLESS off
 * nothing is left of it.
 */
#ifndef __IOMMUFD_HITLESS_SEAM_H
#define __IOMMUFD_HITLESS_SEAM_H

struct iommu_option;
struct iommufd_device;
struct iommufd_hw_pagetable;
struct iommufd_object;
struct iommufd_ucmd;
struct iopt_pages;

#ifdef CONFIG_HITLESS
int iommufd_hwpt_liveupdate_mark_preserve(struct iommufd_ucmd *ucmd);
int iommufd_hwpt_liveupdate_restore(struct iommufd_ucmd *ucmd);
int iommufd_hwpt_liveupdate_mappings(struct iommufd_ucmd *ucmd);
int iommufd_option_liveupdate(struct iommu_option *cmd);
void iommufd_hwpt_restored_destroy(struct iommufd_object *obj);
int iommufd_hitless_claim(struct iommufd_device *idev,
			  struct iommufd_hw_pagetable **out);
int iommufd_hitless_attach(struct iommufd_device *idev,
			   struct iommufd_hw_pagetable *hwpt);
void iopt_pages_remember_file(struct iopt_pages *pages);
#else
static inline int iommufd_hitless_claim(struct iommufd_device *idev,
					struct iommufd_hw_pagetable **out)
{
	return 0;
}
static inline int iommufd_hitless_attach(struct iommufd_device *idev,
					 struct iommufd_hw_pagetable *hwpt)
{
	return 0;
}
static inline void iopt_pages_remember_file(struct iopt_pages *pages) { }
#endif

#endif /* __IOMMUFD_HITLESS_SEAM_H */
