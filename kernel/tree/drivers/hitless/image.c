// SPDX-License-Identifier: GPL-2.0-only
/*
 * kexec's seam to hitless: the image that is about to be jumped into.
 */

#include <linux/hitless/memory.h>
#include <linux/kexec.h>

/*
 * Will the loaded image get what is handed over? One from kexec_load(2) will
 * not: to it everything is free memory. Context: kernel_kexec(), which keeps
 * the image from changing.
 */
bool hitless_seam_image_takes_over(void)
{
	return kexec_image && kexec_image->kho.fdt;
}
