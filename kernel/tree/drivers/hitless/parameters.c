// SPDX-License-Identifier: GPL-2.0-only
/*
 * Kernel parameters of hitless, and its start.
 *
 * hitless=off		switches everything off
 * hitless.break=NAME,...	leaves out parts, for tests (CONFIG_HITLESS_BREAK);
 *			the names are in part.rs
 */

#define pr_fmt(fmt) "hitless: " fmt

#include <linux/cache.h>
#include <linux/hitless/control.h>
#include <linux/init.h>
#include <linux/kernel.h>
#include <linux/kstrtox.h>
#include <linux/printk.h>
#include <linux/string.h>

static bool enabled __ro_after_init = true;
static char left_out[64] __ro_after_init;

const char *hitless_left_out(void)
{
	return left_out;
}

static int __init parse_enabled(char *arg)
{
	return arg ? kstrtobool(arg, &enabled) : -EINVAL;
}
early_param("hitless", parse_enabled);

#ifdef CONFIG_HITLESS_BREAK
static int __init parse_break(char *arg)
{
	if (!arg || strscpy(left_out, arg) < 0)
		return -EINVAL;
	return 0;
}
early_param("hitless.break", parse_break);
#endif

/* After LUO has seen what arrived (early), before PCI is scanned (subsys). */
static int __init hitless_start(void)
{
	if (!enabled) {
		pr_info("switched off\n");
		return 0;
	}
	if (left_out[0])
		pr_warn("left out on purpose: %s\n", left_out);
	return hitless_init();
}
postcore_initcall(hitless_start);
