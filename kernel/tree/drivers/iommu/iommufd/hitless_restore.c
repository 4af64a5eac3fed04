// SPDX-License-Identifier: GPL-2.0-only
/*
 * iommufd's seam to hitless, incoming: iommufds and HWPTs that come back, and
 * devices that come with them. Who may have which is decided in
 * drivers/hitless.
 */

#include <linux/anon_inodes.h>
#include <linux/file.h>
#include <linux/hitless/iommufd.h>
#include <linux/iommu.h>
#include <linux/overflow.h>
#include <linux/pci.h>
#include <uapi/linux/iommufd.h>

#include "hitless_seam.h"
#include "iommufd_private.h"

/* Mappings that are listed at a time. */
#define MAPPINGS	32

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
	((struct iommufd_ctx *)file->private_data)->liveupdate_key = key;
	*out = file;
	return 0;
}

/*
 * The HWPT of a restored domain. The user knows its id once it was restored; a
 * device that is bound before that brings the HWPT with it.
 */
struct iommufd_hwpt_restored {
	struct iommufd_hw_pagetable common;
	u64 token;
	bool known;
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

static int make_restored(struct iommufd_ctx *ictx, u64 token)
{
	struct iommufd_hwpt_restored *hwpt;
	struct iommu_domain *domain;
	u64 key;
	int rc;

	rc = hitless_iommufd_restore(ictx->liveupdate_key, token, &key);
	if (rc)
		return rc;
	hwpt = __iommufd_object_alloc(ictx, hwpt, IOMMUFD_OBJ_HWPT_RESTORED,
				      common.obj);
	if (IS_ERR(hwpt))
		return PTR_ERR(hwpt);
	hwpt->token = token;
	domain = hitless_domain_for_hwpt(key);
	if (IS_ERR(domain)) {
		iommufd_object_abort(ictx, &hwpt->common.obj);
		return PTR_ERR(domain);
	}
	/* From here on the object's end is the domain's. */
	hwpt->common.domain = domain;
	iommufd_object_finalize(ictx, &hwpt->common.obj);
	return 0;
}

/* As get_restored(), and if there is none it is made. */
static struct iommufd_hwpt_restored *need_restored(struct iommufd_ctx *ictx,
						   u64 token)
{
	struct iommufd_hwpt_restored *hwpt = get_restored(ictx, token);
	int rc;

	if (!IS_ERR(hwpt))
		return hwpt;
	rc = make_restored(ictx, token);
	/* -EEXIST: somebody else has been faster. */
	if (rc && rc != -EEXIST)
		return ERR_PTR(rc);
	hwpt = get_restored(ictx, token);
	return IS_ERR(hwpt) ? ERR_PTR(-EBUSY) : hwpt;
}

/*
 * IOMMU_HWPT_LIVEUPDATE_RESTORE: the HWPT object around the restored domain
 * that had this token. Nothing can be attached to it or mapped in it; its
 * device comes with it when it binds, is attached to another HWPT when the user
 * is ready, and then the HWPT can be destroyed.
 */
int iommufd_hwpt_liveupdate_restore(struct iommufd_ucmd *ucmd)
{
	struct iommu_hwpt_liveupdate_restore *cmd = ucmd->cmd;
	struct iommufd_ctx *ictx = ucmd->ictx;
	struct iommufd_hwpt_restored *hwpt;
	bool known;
	int rc;

	if (cmd->hwpt_alloc_flags || cmd->__reserved)
		return -EOPNOTSUPP;
	if (!ictx->liveupdate_key)
		return -ENOTTY;
	hwpt = need_restored(ictx, cmd->hwpt_token);
	if (IS_ERR(hwpt))
		return PTR_ERR(hwpt);
	xa_lock(&ictx->objects);
	known = hwpt->known;
	hwpt->known = true;
	xa_unlock(&ictx->objects);
	cmd->pt_id = hwpt->common.obj.id;
	rc = known ? -EEXIST : iommufd_ucmd_respond(ucmd, sizeof(*cmd));
	if (rc && !known) {
		xa_lock(&ictx->objects);
		hwpt->known = false;
		xa_unlock(&ictx->objects);
	}
	iommufd_put_object(ictx, &hwpt->common.obj);
	return rc;
}

/* IOMMU_HWPT_LIVEUPDATE_MAPPINGS: what a restored HWPT maps. */
int iommufd_hwpt_liveupdate_mappings(struct iommufd_ucmd *ucmd)
{
	struct iommu_hwpt_liveupdate_mappings *cmd = ucmd->cmd;
	struct iommu_hwpt_liveupdate_mapping *buffer __free(kfree) = NULL;
	struct iommufd_ctx *ictx = ucmd->ictx;
	struct iommufd_hwpt_restored *hwpt;
	struct iommufd_object *obj;
	u32 done = 0;
	u64 index;
	int rc;

	if (cmd->flags || cmd->__reserved)
		return -EOPNOTSUPP;
	if (cmd->entry_size != sizeof(*buffer))
		return -EINVAL;
	obj = iommufd_get_object(ictx, cmd->hwpt_id, IOMMUFD_OBJ_HWPT_RESTORED);
	if (IS_ERR(obj))
		return PTR_ERR(obj);
	hwpt = container_of(obj, struct iommufd_hwpt_restored, common.obj);
	buffer = kzalloc_objs(*buffer, MAPPINGS, GFP_KERNEL_ACCOUNT);
	rc = buffer ? 1 : -ENOMEM;
	while (rc > 0) {
		if (check_add_overflow(cmd->index, (u64)done, &index)) {
			rc = -EOVERFLOW;
			break;
		}
		rc = hitless_iommufd_mappings(ictx->liveupdate_key, hwpt->token,
					      index, buffer,
					      min(cmd->count - done, MAPPINGS),
					      &cmd->total);
		if (rc > 0 &&
		    copy_to_user(u64_to_user_ptr(cmd->mappings_uptr) +
					 done * sizeof(*buffer),
				 buffer, rc * sizeof(*buffer)))
			rc = -EFAULT;
		if (rc > 0)
			done += rc;
	}
	iommufd_put_object(ictx, obj);
	if (rc)
		return rc;
	cmd->count = done;
	return iommufd_ucmd_respond(ucmd, sizeof(*cmd));
}

/* IOMMU_OPTION_LIVEUPDATE: what can be preserved by this kernel. */
int iommufd_option_liveupdate(struct iommu_option *cmd)
{
	if (cmd->object_id || cmd->op != IOMMU_OPTION_OP_GET)
		return -EOPNOTSUPP;
	cmd->val64 = hitless_iommufd_features();
	return 0;
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
	int how, rc;
	u64 token;

	if (!dev_is_pci(idev->dev))
		return 0;
	pdev = to_pci_dev(idev->dev);
	how = hitless_iommufd_binds(idev->ictx->liveupdate_key,
				    pci_domain_nr(pdev->bus), pci_dev_id(pdev),
				    &token);
	if (how <= 0)
		return how;
	hwpt = need_restored(idev->ictx, token);
	if (IS_ERR(hwpt))
		return PTR_ERR(hwpt);
	rc = iommu_device_claim_restored(idev->dev, hwpt->common.domain,
					 idev->ictx);
	if (!rc && how == HITLESS_BIND_RESTORED) {
		*out = &hwpt->common;
		return 1;
	}
	/* Owned by nobody now: the caller claims it the ordinary way. */
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
	if (rc) {
		iommu_device_unclaim_restored(idev->dev);
		return rc;
	}
	/* Pairs with iommufd_device_detach(), as in iommufd_device_attach(). */
	refcount_inc(&idev->obj.users);
	return 0;
}
