// SPDX-License-Identifier: GPL-2.0-only
/*
 * Power management's seam to hitless: the machine is to sleep.
 */

#include <linux/hitless/sleep.h>
#include <linux/init.h>
#include <linux/notifier.h>
#include <linux/suspend.h>

static int sleep_notify(struct notifier_block *block, unsigned long event,
			void *unused)
{
	switch (event) {
	case PM_HIBERNATION_PREPARE:
	case PM_SUSPEND_PREPARE:
	case PM_RESTORE_PREPARE:
		return notifier_from_errno(hitless_sleeps());
	case PM_POST_HIBERNATION:
	case PM_POST_SUSPEND:
	case PM_POST_RESTORE:
		hitless_wakes();
		break;
	}
	return NOTIFY_DONE;
}

static struct notifier_block sleep_block = {
	.notifier_call = sleep_notify,
	/* First, so that nobody has done anything that is in vain. */
	.priority = INT_MAX,
};

/* As early as glue itself: an image to wake from is looked for much later. */
static int __init sleep_init(void)
{
	return register_pm_notifier(&sleep_block);
}
postcore_initcall(sleep_init);
