/* SPDX-License-Identifier: GPL-2.0-only */
/* hitless: what power management asks, and kexec of an image that comes back. */
#ifndef _LINUX_HITLESS_SLEEP_H
#define _LINUX_HITLESS_SLEEP_H

#ifdef CONFIG_HITLESS

/**
 * hitless_sleeps() - may the machine sleep?
 *
 * If so, nothing can be preserved until hitless_wakes().
 *
 * Context: Before any device is put to sleep or its memory is overwritten. May
 * sleep.
 * Return: 0, or -errno while anything is preserved or not finished.
 */
int hitless_sleeps(void);

/**
 * hitless_wakes() - the machine is awake, or stays so
 *
 * Context: May sleep.
 */
void hitless_wakes(void);

#else /* CONFIG_HITLESS */

static inline int hitless_sleeps(void) { return 0; }
static inline void hitless_wakes(void) { }

#endif /* CONFIG_HITLESS */

#endif /* _LINUX_HITLESS_SLEEP_H */
