/* SPDX-License-Identifier: GPL-2.0-only */
/* hitless: the image of the next kernel, and what this one says of itself. */
#ifndef _LINUX_HITLESS_IMAGE_H
#define _LINUX_HITLESS_IMAGE_H

/*
 * The record in this kernel's image, see core/src/abi/image.rs: its version,
 * the handover formats and the features that this kernel takes over. Features
 * are kinds of hardware (bit N) and formats of page tables (bit 16 + N).
 */
#define HITLESS_IMAGE_VERSION		1
#define HITLESS_IMAGE_OLDEST		1
#define HITLESS_IMAGE_NEWEST		1
#define HITLESS_IMAGE_TAKES		0x60002
#define HITLESS_IMAGE_NEEDS		0
#define HITLESS_IMAGE_DEFAULT_HANDOVER	1
#define HITLESS_IMAGE_DEFAULT_IOMMU	2
#define HITLESS_IMAGE_OWN_LINE		4

#ifndef __ASSEMBLER__

#include <linux/types.h>

struct kimage;

/* Facts about an image that has been loaded. */
enum {
	HITLESS_IMAGE_NO_HANDOVER = 1 << 0,
	HITLESS_IMAGE_NO_RECORD = 1 << 1,
	HITLESS_IMAGE_OTHER_FORMAT = 1 << 2,
	HITLESS_IMAGE_HITLESS_OFF = 1 << 3,
	HITLESS_IMAGE_HANDOVER_OFF = 1 << 4,
	HITLESS_IMAGE_IOMMU_OFF = 1 << 5,
	HITLESS_IMAGE_OTHER_REMAPPING = 1 << 6,
	HITLESS_IMAGE_OTHER_PCI = 1 << 7,
	HITLESS_IMAGE_ANYWAY = 1 << 8,
	HITLESS_IMAGE_OBEYS_NO_OTHER = 1 << 9,
	HITLESS_IMAGE_COMES_BACK = 1 << 10,
};

/**
 * struct hitless_image - an image that has been loaded
 * @takes: features that it takes over
 * @needs: features that it needs
 * @facts: HITLESS_IMAGE_*
 * @reserved: 0
 */
struct hitless_image {
	u64 takes;
	u64 needs;
	u32 facts;
	u32 reserved;
};

/* Bytes of somebody else's. */
struct hitless_bytes {
	const void *start;
	size_t size;
};

#ifdef CONFIG_HITLESS

/**
 * hitless_image_loads() - an image is loaded: can it take over what runs on?
 * @image: bytes of the image
 * @next: its command line
 * @this: the command line of this kernel
 * @out: what is known of it
 *
 * Context: kexec_file_load(2). May sleep.
 */
void hitless_image_loads(struct hitless_bytes image, struct hitless_bytes next,
			 struct hitless_bytes this, struct hitless_image *out);

/**
 * hitless_jumps() - may the machine jump into an image?
 * @image: the image
 *
 * Asked before any file is frozen, and even if there is none. It is what files
 * that are frozen next are compared with.
 *
 * Context: kernel_kexec(), which keeps the image from changing. May sleep.
 * Return: 0, or -errno if the image would not take over what is preserved, or
 * while a device of the previous update is on the tables that it arrived with:
 * this kernel cannot hand it on.
 */
int hitless_jumps(const struct hitless_image *image);

/**
 * hitless_kimage_jumps() - may the machine jump into the loaded image?
 *
 * One from kexec_load(2) gets nothing of what is handed over: to it everything
 * is free memory.
 *
 * Context: kernel_kexec(), with an image loaded.
 * Return: as hitless_jumps().
 */
int hitless_kimage_jumps(void);

/**
 * hitless_kimage_loads() - an image is loaded from a file
 * @image: the image, with the bytes of the file and the command line
 *
 * What is known of it is kept with it, until the jump is asked for.
 *
 * Context: kexec_file_load(2). May sleep.
 */
void hitless_kimage_loads(struct kimage *image);

#else /* CONFIG_HITLESS */

static inline int hitless_kimage_jumps(void) { return 0; }
static inline void hitless_kimage_loads(struct kimage *image) { }

#endif /* CONFIG_HITLESS */

#endif /* __ASSEMBLER__ */

#endif /* _LINUX_HITLESS_IMAGE_H */
