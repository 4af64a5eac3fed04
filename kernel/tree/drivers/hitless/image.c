// SPDX-License-Identifier: GPL-2.0-only
/*
 * kexec's seam to hitless: the image that is loaded, and jumped into later.
 */

#include <linux/hitless/image.h>
#include <linux/init.h>
#include <linux/kexec.h>
#include <linux/string.h>

void hitless_kimage_loads(struct kimage *image)
{
	struct hitless_bytes kernel = {
		.start = image->kernel_buf,
		.size = image->kernel_buf_len,
	};
	struct hitless_bytes next = {
		.start = image->cmdline_buf,
		.size = image->cmdline_buf_len,
	};
	struct hitless_bytes this = {
		.start = saved_command_line,
		.size = strlen(saved_command_line),
	};

	hitless_image_loads(kernel, next, this, &image->hitless);
}

int hitless_kimage_jumps(void)
{
	struct hitless_image image = kexec_image->hitless;

	if (kexec_image->preserve_context)
		image.facts |= HITLESS_IMAGE_COMES_BACK;
	if (!kexec_image->kho.fdt)
		image.facts |= HITLESS_IMAGE_NO_HANDOVER;
	return hitless_jumps(&image);
}
