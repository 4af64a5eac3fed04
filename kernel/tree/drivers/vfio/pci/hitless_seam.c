// SPDX-License-Identifier: GPL-2.0-only
/*
 * vfio-pci's seam to hitless: facts about a device behind a device file, and
 * the file of a device that has been kept running. Whether a device may be
 * preserved is decided in drivers/hitless.
 */

#include <linux/file.h>
#include <linux/hitless/iommufd.h>
#include <linux/hitless/vfio.h>
#include <linux/iommu.h>
#include <linux/iommufd.h>
#include <linux/pci.h>
#include <linux/vfio_pci_core.h>

#include "../../pci/pci.h"

static struct vfio_pci_core_device *pci_device_of(struct file *file)
{
	struct vfio_device *vdev = hitless_seam_vfio_device(file);

	if (!vdev || !vdev->ops->name || strcmp(vdev->ops->name, "vfio-pci"))
		return NULL;
	return container_of(vdev, struct vfio_pci_core_device, vdev);
}

bool hitless_seam_vfio_is(struct file *file)
{
	return pci_device_of(file);
}

static int count_alias(struct pci_dev *pdev, u16 alias, void *count)
{
	++*(int *)count;
	return 0;
}

static int count_device(struct device *dev, void *count)
{
	++*(int *)count;
	return 0;
}

static u32 group_facts(struct pci_dev *pdev)
{
	int aliases = 0, devices = 0;

	if (!pdev->dev.iommu_group)
		return HITLESS_VFIO_NO_GROUP;
	pci_for_each_dma_alias(pdev, count_alias, &aliases);
	iommu_group_for_each_dev(pdev->dev.iommu_group, &devices,
				 count_device);
	return aliases == 1 && devices == 1 ? 0 : HITLESS_VFIO_SHARED_GROUP;
}

int hitless_seam_vfio_bridge(struct file *file, u32 index)
{
	struct vfio_pci_core_device *vdev = pci_device_of(file);
	struct pci_dev *bridge = vdev ? vdev->pdev : NULL;

	do
		bridge = bridge ? pci_upstream_bridge(bridge) : NULL;
	while (index--);
	return bridge ? pci_dev_id(bridge) : -1;
}

static u32 attachment_facts(struct vfio_pci_core_device *vdev,
			    struct hitless_vfio *out)
{
	struct vfio_device *device = &vdev->vdev;
	u32 facts = 0;

	if (!device->iommufd_device)
		return HITLESS_VFIO_NO_IOMMUFD | HITLESS_VFIO_NOT_ATTACHED;
	out->iommufd = hitless_seam_iommufd_file(device->iommufd_device);
	if (!device->iommufd_attached)
		return HITLESS_VFIO_NOT_ATTACHED;
	if (!ida_is_empty(&device->pasids))
		facts |= HITLESS_VFIO_PASIDS;
	facts |= hitless_seam_iommufd_attached(device->iommufd_device,
					       &out->hwpt_token);
	if (hitless_describe_device(device->dev, &out->unit, &out->attachment))
		facts |= HITLESS_VFIO_UNKNOWN_UNIT;
	return facts;
}

int hitless_seam_vfio_describe(struct file *file, struct hitless_vfio *out)
{
	struct vfio_pci_core_device *vdev;
	struct pci_dev *pdev;

	vdev = pci_device_of(file);
	if (!vdev)
		return -EINVAL;
	pdev = vdev->pdev;
	guard(mutex)(&vdev->vdev.dev_set->lock);
	*out = (struct hitless_vfio) {
		.segment = pci_domain_nr(pdev->bus),
		.bdf = pci_dev_id(pdev),
	};
	out->facts = group_facts(pdev);
	if (!out->facts)
		out->facts = attachment_facts(vdev, out);
	if (pdev->is_virtfn)
		out->facts |= HITLESS_VFIO_VIRTFN;
	if (pdev->ats_enabled)
		out->facts |= HITLESS_VFIO_ATS;
	if (pci_num_vf(pdev))
		out->facts |= HITLESS_VFIO_HAS_VFS;
	scoped_guard(rwsem_read, &vdev->memory_lock)
		if (pdev->current_state != PCI_D0 || vdev->pm_runtime_engaged)
			out->facts |= HITLESS_VFIO_NOT_D0;
	scoped_guard(mutex, &vdev->igate)
		if (vdev->irq_type != VFIO_PCI_NUM_IRQS)
			out->facts |= HITLESS_VFIO_INTERRUPTS;
	return 0;
}

/* -ENODEV: no such device, or vfio-pci has not been bound to it yet. */
int hitless_seam_vfio_create(u32 segment, u16 bdf, struct file **out)
{
	struct vfio_pci_core_device *vdev;
	struct pci_dev *pdev;
	int ret = -ENODEV;

	pdev = pci_get_domain_bus_and_slot(segment, PCI_BUS_NUM(bdf),
					   bdf & 0xff);
	if (!pdev)
		return ret;
	device_lock(&pdev->dev);
	if (pdev->driver && !strcmp(pdev->driver->name, "vfio-pci")) {
		vdev = dev_get_drvdata(&pdev->dev);
		*out = hitless_seam_vfio_open(&vdev->vdev);
		ret = PTR_ERR_OR_ZERO(*out);
	}
	device_unlock(&pdev->dev);
	pci_dev_put(pdev);
	return ret;
}

/*
 * As the second half of vfio_pci_core_enable() for a device that is running:
 * nothing is reset, and the state to go back to on close is the present one,
 * but with bus mastering off.
 */
void hitless_seam_vfio_take_over(struct vfio_pci_core_device *vdev)
{
	struct pci_dev *pdev = vdev->pdev;

	vdev->reset_works = pci_reset_supported(pdev);
	pci_save_state(pdev);
	pdev->saved_config_space[1] &= ~PCI_COMMAND_MASTER;
	vdev->pci_saved_state = pci_store_saved_state(pdev);
}
