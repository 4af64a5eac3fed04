/* SPDX-License-Identifier: GPL-2.0-only */
/* hitless: what memfds ask when they are retrieved. */
#ifndef _LINUX_HITLESS_MEMORY_H
#define _LINUX_HITLESS_MEMORY_H

#include <linux/types.h>

struct liveupdate_file_op_args;

#ifdef CONFIG_HITLESS

/**
 * hitless_memory_is_mapped() - may restored tables map memory of this session?
 * @args: the arguments of a memfd's .retrieve()
 *
 * What the records say of the single memfd does not count.
 *
 * Context: LUO's session lock is held. May sleep.
 * Return: true while any table that came with the session may be in use.
 */
bool hitless_memory_is_mapped(const struct liveupdate_file_op_args *args);

#else /* CONFIG_HITLESS */

static inline bool
hitless_memory_is_mapped(const struct liveupdate_file_op_args *args)
{
	return false;
}

#endif /* CONFIG_HITLESS */

#endif /* _LINUX_HITLESS_MEMORY_H */
