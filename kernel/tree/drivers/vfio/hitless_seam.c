// SPDX-License-Identifier: GPL-2.0-only
/*
 * VFIO's seam to hitless: a device file that LUO opens in the next kernel.
 */

#include <linux/anon_inodes.h>
#include <linux/hitless/vfio.h>
#include <linux/vfio.h>

#include "vfio.h"

/*
 * As vfio_device_fops_cdev_open(), without a path: the one way to open a device
 * that has been kept running.
 */
struct file *hitless_seam_vfio_open(struct vfio_device *device)
{
	struct vfio_device_file *df;
	struct file *file;

	if (!vfio_device_try_get_registration(device))
		return ERR_PTR(-ENODEV);
	df = vfio_allocate_device_file(device);
	if (IS_ERR(df)) {
		file = ERR_CAST(df);
		goto err_put;
	}
	file = anon_inode_getfile_fmode("[vfio-device]", &vfio_device_fops, df,
					O_RDWR, FMODE_PREAD | FMODE_PWRITE);
	if (IS_ERR(file))
		goto err_free;
	/* All mappings of the device in one address space, see cdev_open. */
	file->f_mapping = device->inode->i_mapping;
	return file;

err_free:
	kfree(df);
err_put:
	vfio_device_put_registration(device);
	return file;
}

bool hitless_seam_vfio_is_bound(struct file *file)
{
	struct vfio_device_file *df = file->private_data;

	/* Pairs with smp_store_release() in vfio_df_ioctl_bind_iommufd(). */
	return file->f_op == &vfio_device_fops &&
	       smp_load_acquire(&df->access_granted);
}

struct vfio_device *hitless_seam_vfio_device(struct file *file)
{
	struct vfio_device_file *df = file->private_data;

	if (!hitless_seam_vfio_is_bound(file) || df->group)
		return NULL;
	return df->device;
}
