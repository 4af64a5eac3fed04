// SPDX-License-Identifier: GPL-2.0-only
/*
 * iommufd's seam to hitless: HWPTs that the user marked with a token, facts
 * about them and the memory behind them, and HWPTs of restored domains. What
 * may be preserved is decided in drivers/hitless.
 */

#include <linux/anon_inodes.h>
#include <linux/fcntl.h>
#include <linux/file.h>
#include <linux/hitless.h>
#include <linux/iommu.h>
#include <linux/memfd.h>
#include <linux/shmem_fs.h>
#include <uapi/linux/iommufd.h>

#include "hitless_seam.h"
#include "io_pagetable.h"
#include "iommufd_private.h"

#define MEMORY_SEALS	(F_SEAL_SEAL | F_SEAL_GROW | F_SEAL_SHRINK)

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

/* -EBUSY while a mapping is being made or taken down. */
static int freeze_ioas(struct io_pagetable *iopt)
{
	struct iopt_area *area;

	guard(rwsem_write)(&iopt->domains_rwsem);
	guard(rwsem_write)(&iopt->iova_rwsem);
	for (area = iopt_area_iter_first(iopt, 0, ULONG_MAX); area;
	     area = iopt_area_iter_next(area, 0, ULONG_MAX))
		if (!area->pages)
			return -EBUSY;
	iopt->immutable++;
	return 0;
}

static void unfreeze_ioas(struct io_pagetable *iopt)
{
	guard(rwsem_write)(&iopt->iova_rwsem);
	iopt->immutable--;
}

/* From here to the undo a marked HWPT keeps the reference next_marked() took. */
int hitless_seam_iommufd_freeze(struct file *file)
{
	struct iommufd_hwpt_paging *hwpt;
	unsigned long index = 0;
	int rc;

	for (; (hwpt = next_marked(ctx_of(file), &index)); index++) {
		rc = freeze_ioas(&hwpt->ioas->iopt);
		if (rc) {
			put_marked(hwpt);
			hitless_seam_iommufd_unfreeze(file);
			return rc;
		}
		hwpt->liveupdate_frozen = true;
	}
	return 0;
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

static u32 memory_flags(struct io_pagetable *iopt)
{
	struct iopt_area *area;
	u32 flags = 0;

	guard(rwsem_read)(&iopt->iova_rwsem);
	for (area = iopt_area_iter_first(iopt, 0, ULONG_MAX); area;
	     area = iopt_area_iter_next(area, 0, ULONG_MAX)) {
		if (area->pages->type != IOPT_ADDRESS_FILE)
			flags |= HITLESS_HWPT_OTHER_MEMORY;
		else if (~area->pages->seals & MEMORY_SEALS)
			flags |= HITLESS_HWPT_UNSEALED;
		else if (!shmem_file(area->pages->file) ||
			 area->pages->removals !=
			 shmem_removals(file_inode(area->pages->file)))
			flags |= HITLESS_HWPT_HOLES;
	}
	return flags;
}

static void describe_hwpt(struct iommufd_hwpt_paging *hwpt,
			  struct hitless_hwpt *out)
{
	struct iommu_domain *domain = hwpt->common.domain;

	*out = (struct hitless_hwpt) {
		.token = hwpt->liveupdate_token,
		.id = hwpt->common.obj.id,
		.flags = memory_flags(&hwpt->ioas->iopt),
	};
	if (hwpt->nest_parent)
		out->flags |= HITLESS_HWPT_NEST_PARENT;
	if (hwpt->auto_domain)
		out->flags |= HITLESS_HWPT_AUTO;
	if (hwpt->common.pasid_compat)
		out->flags |= HITLESS_HWPT_PASID;
	if (hwpt->common.fault)
		out->flags |= HITLESS_HWPT_FAULT;
	if (domain->dirty_ops)
		out->flags |= HITLESS_HWPT_DIRTY_TRACKING;
	if (hitless_seam_vtd_table(domain, &out->table))
		out->flags |= HITLESS_HWPT_UNKNOWN_TABLE;
}

int hitless_seam_iommufd_hwpts(struct file *file, struct hitless_hwpt *hwpts,
			       u32 max)
{
	struct iommufd_hwpt_paging *hwpt;
	unsigned long index = 0;
	u32 n = 0;

	for (; (hwpt = next_marked(ctx_of(file), &index)); index++) {
		if (hwpt->liveupdate_frozen && n < max)
			describe_hwpt(hwpt, &hwpts[n]);
		n += hwpt->liveupdate_frozen;
		put_marked(hwpt);
	}
	return n > max ? -E2BIG : n;
}

static int collect_files(struct io_pagetable *iopt, struct file **files,
			 u32 max)
{
	struct iopt_area *area;
	u32 n = 0, i;

	guard(rwsem_read)(&iopt->iova_rwsem);
	for (area = iopt_area_iter_first(iopt, 0, ULONG_MAX); area;
	     area = iopt_area_iter_next(area, 0, ULONG_MAX)) {
		if (area->pages->type != IOPT_ADDRESS_FILE)
			return -EINVAL;
		for (i = 0; i < n && files[i] != area->pages->file; i++)
			;
		if (i < n)
			continue;
		if (n == max)
			return -E2BIG;
		files[n++] = area->pages->file;
	}
	return n;
}

int hitless_seam_iommufd_files(struct file *file, u32 hwpt_id,
			       struct file **files, u32 max)
{
	struct iommufd_hwpt_paging *hwpt;
	struct iommufd_object *obj;
	int rc;

	obj = iommufd_get_object(ctx_of(file), hwpt_id,
				 IOMMUFD_OBJ_HWPT_PAGING);
	if (IS_ERR(obj))
		return PTR_ERR(obj);
	hwpt = container_of(obj, struct iommufd_hwpt_paging, common.obj);
	rc = collect_files(&hwpt->ioas->iopt, files, max);
	iommufd_put_object(ctx_of(file), obj);
	return rc;
}

int hitless_seam_iommufd_create(u64 key, struct file **out)
{
	struct file *file;
	int rc;

	file = anon_inode_getfile("[iommufd]", &iommufd_fops, NULL, O_RDWR);
	if (IS_ERR(file))
		return PTR_ERR(file);
	rc = iommufd_fops_open(file_inode(file), file);
	if (rc) {
		fput(file);
		return rc;
	}
	ctx_of(file)->liveupdate_key = key;
	*out = file;
	return 0;
}

/* The HWPT of a restored domain. */
struct iommufd_hwpt_restored {
	struct iommufd_hw_pagetable common;
	u64 token;
};

/* The restored HWPT with this token, with a reference, or -ENOENT. */
static struct iommufd_hwpt_restored *get_restored(struct iommufd_ctx *ictx,
						  u64 token)
{
	struct iommufd_hwpt_restored *hwpt;
	struct iommufd_object *obj;
	unsigned long index;
	u32 id = 0;

	xa_lock(&ictx->objects);
	xa_for_each(&ictx->objects, index, obj) {
		if (obj->type != IOMMUFD_OBJ_HWPT_RESTORED)
			continue;
		hwpt = container_of(obj, struct iommufd_hwpt_restored,
				    common.obj);
		if (hwpt->token == token)
			id = obj->id;
	}
	xa_unlock(&ictx->objects);
	return container_of(iommufd_get_object(ictx, id,
					       IOMMUFD_OBJ_HWPT_RESTORED),
			    struct iommufd_hwpt_restored, common.obj);
}

/*
 * IOMMU_HWPT_LIVEUPDATE_RESTORE: a HWPT object around the restored domain that
 * had this token. Nothing can be attached to it or mapped in it; its device
 * comes with it when it binds, is attached to another HWPT when the user is
 * ready, and then the HWPT can be destroyed.
 */
int iommufd_hwpt_liveupdate_restore(struct iommufd_ucmd *ucmd)
{
	struct iommu_hwpt_liveupdate_restore *cmd = ucmd->cmd;
	struct iommufd_hwpt_restored *hwpt;
	struct iommu_domain *domain;
	u64 key;
	int rc;

	if (!ucmd->ictx->liveupdate_key)
		return -ENOTTY;
	hwpt = __iommufd_object_alloc_ucmd(ucmd, hwpt,
					   IOMMUFD_OBJ_HWPT_RESTORED,
					   common.obj);
	if (IS_ERR(hwpt))
		return PTR_ERR(hwpt);
	rc = hitless_iommufd_restore(ucmd->ictx->liveupdate_key,
				     cmd->hwpt_token, &key);
	if (rc)
		return rc;
	hwpt->token = cmd->hwpt_token;
	domain = hitless_seam_vtd_domain(key);
	if (IS_ERR(domain))
		return PTR_ERR(domain);
	/* From here on the object's end is the domain's. */
	hwpt->common.domain = domain;
	cmd->out_hwpt_id = hwpt->common.obj.id;
	return iommufd_ucmd_respond(ucmd, sizeof(*cmd));
}

void iommufd_hwpt_restored_destroy(struct iommufd_object *obj)
{
	struct iommufd_hwpt_restored *hwpt =
		container_of(obj, struct iommufd_hwpt_restored, common.obj);

	if (hwpt->common.domain)
		iommu_domain_free(hwpt->common.domain);
}

/*
 * Bind of a device that may have been kept running. 1: it has been taken over
 * with the HWPT it runs on, to which it must be attached next; 0: it has
 * nothing to do with us; else refused.
 */
int iommufd_hitless_claim(struct iommufd_device *idev,
			  struct iommufd_hw_pagetable **out)
{
	struct iommufd_hwpt_restored *hwpt;
	struct pci_dev *pdev;
	u64 token;
	int rc;

	if (!dev_is_pci(idev->dev))
		return 0;
	pdev = to_pci_dev(idev->dev);
	rc = hitless_iommufd_binds(idev->ictx->liveupdate_key,
				   pci_domain_nr(pdev->bus), pci_dev_id(pdev),
				   &token);
	if (rc <= 0)
		return rc;
	hwpt = get_restored(idev->ictx, token);
	if (IS_ERR(hwpt))
		return PTR_ERR(hwpt);
	rc = iommu_device_claim_restored(idev->dev, hwpt->common.domain,
					 idev->ictx);
	if (!rc && !hitless_leaves_out("claim")) {
		*out = &hwpt->common;
		return 1;
	}
	/* Left out: owned by nobody, the caller claims it the ordinary way. */
	if (!rc)
		iommu_device_release_dma_owner(idev->dev);
	iommufd_put_object(idev->ictx, &hwpt->common.obj);
	return rc;
}

/*
 * Second half of a claim; the reference moves into the attachment. A failure
 * undoes the first half too.
 */
int iommufd_hitless_attach(struct iommufd_device *idev,
			   struct iommufd_hw_pagetable *hwpt)
{
	int rc = iommufd_hw_pagetable_attach(hwpt, idev, IOMMU_NO_PASID);

	iommufd_put_object(idev->ictx, &hwpt->obj);
	if (rc)
		iommu_device_unclaim_restored(idev->dev);
	return rc;
}

/* A file is about to be mapped: what it is like before anything is pinned. */
void iopt_pages_remember_file(struct iopt_pages *pages)
{
	pages->seals = max(memfd_get_seals(pages->file), 0);
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
