// SPDX-License-Identifier: GPL-2.0-only
/*
 * iommufd's seam to hitless, outgoing: HWPTs that the user marked with a token,
 * facts about them and the memory behind them. What may be preserved is decided
 * in drivers/hitless.
 */

#include <linux/file.h>
#include <linux/hitless/iommufd.h>
#include <linux/hitless/vfio.h>
#include <linux/iommu.h>
#include <linux/shmem_fs.h>
#include <uapi/linux/iommufd.h>

#include "hitless_seam.h"
#include "io_pagetable.h"
#include "iommufd_private.h"

static struct iommufd_ctx *ctx_of(struct file *file)
{
	return file->private_data;
}

bool hitless_seam_iommufd_is(struct file *file)
{
	return file->f_op == &iommufd_fops;
}

/*
 * IOMMU_HWPT_LIVEUPDATE_MARK_PRESERVE: give a HWPT the token that it is found
 * by in the next kernel. There is no way to take a mark back.
 */
int iommufd_hwpt_liveupdate_mark_preserve(struct iommufd_ucmd *ucmd)
{
	struct iommu_hwpt_liveupdate_mark_preserve *cmd = ucmd->cmd;
	struct iommufd_ctx *ictx = ucmd->ictx;
	struct iommufd_hwpt_paging *hwpt;
	struct iommufd_object *obj;
	unsigned long index;
	int rc = 0;

	if (cmd->flags || cmd->__reserved)
		return -EOPNOTSUPP;
	hwpt = iommufd_get_hwpt_paging(ucmd, cmd->hwpt_id);
	if (IS_ERR(hwpt))
		return PTR_ERR(hwpt);

	xa_lock(&ictx->objects);
	xa_for_each(&ictx->objects, index, obj)
		if (obj->type == IOMMUFD_OBJ_HWPT_PAGING &&
		    container_of(obj, struct iommufd_hwpt_paging, common.obj)
			    ->liveupdate_marked &&
		    container_of(obj, struct iommufd_hwpt_paging, common.obj)
			    ->liveupdate_token == cmd->hwpt_token)
			rc = -EADDRINUSE;
	if (!rc && hwpt->liveupdate_marked)
		rc = -EBUSY;
	if (!rc) {
		hwpt->liveupdate_token = cmd->hwpt_token;
		hwpt->liveupdate_marked = true;
	}
	xa_unlock(&ictx->objects);

	iommufd_put_object(ictx, &hwpt->common.obj);
	return rc;
}

/* The marked HWPT at or after *@index, with a reference on its users. */
static struct iommufd_hwpt_paging *next_marked(struct iommufd_ctx *ictx,
					       unsigned long *index)
{
	struct iommufd_hwpt_paging *hwpt;
	struct iommufd_object *obj;

	xa_lock(&ictx->objects);
	xa_for_each_start(&ictx->objects, *index, obj, *index) {
		if (obj->type != IOMMUFD_OBJ_HWPT_PAGING)
			continue;
		hwpt = container_of(obj, struct iommufd_hwpt_paging,
				    common.obj);
		if (!hwpt->liveupdate_marked ||
		    !refcount_inc_not_zero(&obj->users))
			continue;
		xa_unlock(&ictx->objects);
		return hwpt;
	}
	xa_unlock(&ictx->objects);
	return NULL;
}

static void put_marked(struct iommufd_hwpt_paging *hwpt)
{
	refcount_dec(&hwpt->common.obj.users);
}

/* Who is making or taking down a mapping has done so, or sees the change. */
static void freeze_ioas(struct io_pagetable *iopt)
{
	guard(rwsem_write)(&iopt->domains_rwsem);
	guard(rwsem_write)(&iopt->iova_rwsem);
	iopt->immutable++;
}

static void unfreeze_ioas(struct io_pagetable *iopt)
{
	guard(rwsem_write)(&iopt->iova_rwsem);
	iopt->immutable--;
}

/* From here to the undo a marked HWPT keeps the reference next_marked() took. */
void hitless_seam_iommufd_freeze(struct file *file)
{
	struct iommufd_hwpt_paging *hwpt;
	unsigned long index = 0;

	for (; (hwpt = next_marked(ctx_of(file), &index)); index++) {
		freeze_ioas(&hwpt->ioas->iopt);
		hwpt->liveupdate_frozen = true;
	}
}

void hitless_seam_iommufd_unfreeze(struct file *file)
{
	struct iommufd_hwpt_paging *hwpt;
	unsigned long index = 0;

	for (; (hwpt = next_marked(ctx_of(file), &index)); index++) {
		if (hwpt->liveupdate_frozen) {
			hwpt->liveupdate_frozen = false;
			unfreeze_ioas(&hwpt->ioas->iopt);
			put_marked(hwpt);
		}
		put_marked(hwpt);
	}
}

static void describe_hwpt(struct iommufd_hwpt_paging *hwpt,
			  struct hitless_hwpt *out)
{
	struct iommu_domain *domain = hwpt->common.domain;

	*out = (struct hitless_hwpt) {
		.token = hwpt->liveupdate_token,
		.id = hwpt->common.obj.id,
	};
	if (hwpt->nest_parent)
		out->facts |= HITLESS_HWPT_NEST_PARENT;
	if (hwpt->auto_domain)
		out->facts |= HITLESS_HWPT_AUTO;
	if (hwpt->common.pasid_compat)
		out->facts |= HITLESS_HWPT_PASID;
	if (hwpt->common.fault)
		out->facts |= HITLESS_HWPT_FAULT;
	if (hitless_describe_table(domain, &out->table))
		out->facts |= HITLESS_HWPT_UNKNOWN_TABLE;
	if (out->table.tracks_dirty)
		out->facts |= HITLESS_HWPT_DIRTY_TRACKING;
}

bool hitless_seam_iommufd_next_hwpt(struct file *file, u32 id,
				    struct hitless_hwpt *out)
{
	struct iommufd_hwpt_paging *hwpt;
	unsigned long index = id;
	bool found = false;

	for (; !found && (hwpt = next_marked(ctx_of(file), &index)); index++) {
		found = hwpt->liveupdate_frozen;
		if (found)
			describe_hwpt(hwpt, out);
		put_marked(hwpt);
	}
	return found;
}

static void describe_memory(struct iopt_area *area, struct hitless_mapping *out)
{
	struct iopt_pages *pages = area->pages;
	unsigned long iova = iopt_area_iova(area);

	*out = (struct hitless_mapping) {
		.iova = iova,
		.length = iopt_area_length(area),
	};
	if (area->iommu_prot & IOMMU_READ)
		out->facts |= HITLESS_MEMORY_READABLE;
	if (area->iommu_prot & IOMMU_WRITE)
		out->facts |= HITLESS_MEMORY_WRITEABLE;
	if (!pages) {
		out->facts |= HITLESS_MEMORY_UNSETTLED;
		return;
	}
	if (iopt_is_dmabuf(pages))
		out->facts |= HITLESS_MEMORY_DMABUF;
	if (pages->type != IOPT_ADDRESS_FILE) {
		out->facts |= HITLESS_MEMORY_NO_FILE;
		return;
	}
	out->file = pages->file;
	out->offset = pages->start + iopt_area_start_byte(area, iova);
	if (!shmem_file(pages->file))
		out->facts |= HITLESS_MEMORY_NOT_SHMEM;
	else if (pages->removals != shmem_removals(file_inode(pages->file)))
		out->facts |= HITLESS_MEMORY_HOLES;
}

bool hitless_seam_iommufd_next_mapping(struct file *file, u32 hwpt_id, u64 iova,
				       struct hitless_mapping *out)
{
	struct iommufd_hwpt_paging *hwpt;
	struct iommufd_object *obj;
	struct iopt_area *area;

	obj = iommufd_get_object(ctx_of(file), hwpt_id,
				 IOMMUFD_OBJ_HWPT_PAGING);
	if (IS_ERR(obj))
		return false;
	hwpt = container_of(obj, struct iommufd_hwpt_paging, common.obj);
	scoped_guard(rwsem_read, &hwpt->ioas->iopt.iova_rwsem) {
		area = iopt_area_iter_first(&hwpt->ioas->iopt, iova, ULONG_MAX);
		if (area)
			describe_memory(area, out);
	}
	iommufd_put_object(ctx_of(file), obj);
	return area;
}

/* A file is about to be mapped: what it is like before anything is pinned. */
void iopt_pages_remember_file(struct iopt_pages *pages)
{
	if (shmem_file(pages->file))
		pages->removals = shmem_removals(file_inode(pages->file));
}

struct file *hitless_seam_iommufd_file(struct iommufd_device *idev)
{
	return idev->ictx->file;
}

/* What the device is attached to: flags, and the token if it is a marked HWPT. */
u32 hitless_seam_iommufd_attached(struct iommufd_device *idev, u64 *token)
{
	struct iommufd_hw_pagetable *attached;
	struct iommufd_hwpt_paging *hwpt;

	guard(mutex)(&idev->igroup->lock);
	attached = iommufd_device_attached_hwpt(idev);
	if (!attached)
		return HITLESS_VFIO_NOT_ATTACHED;
	if (attached->obj.type == IOMMUFD_OBJ_HWPT_RESTORED)
		return HITLESS_VFIO_RESTORED;
	if (attached->obj.type != IOMMUFD_OBJ_HWPT_PAGING)
		return HITLESS_VFIO_NOT_MARKED;
	hwpt = to_hwpt_paging(attached);
	*token = hwpt->liveupdate_token;
	return hwpt->liveupdate_marked ? 0 : HITLESS_VFIO_NOT_MARKED;
}
