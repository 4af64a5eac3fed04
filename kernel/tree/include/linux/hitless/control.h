/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * hitless: passthrough devices keep running while the kernel beneath them is
 * replaced. The headers in this folder are the whole contract between the C
 * subsystems (seams) and the Rust part (glue), one header per subsystem that
 * asks. Only plain values cross: no serialized record is ever seen by C.
 *
 *  - hitless_*() are asked or told by seams; glue implements them
 *    (drivers/hitless/entry/) and decides.
 *  - hitless_seam_*() are called by glue; files beside the subsystem's private
 *    headers implement them. They report facts or carry out one step and
 *    decide nothing.
 *
 * Unless a function says otherwise its caller may sleep and holds no lock that
 * the callee could want.
 */
#ifndef _LINUX_HITLESS_CONTROL_H
#define _LINUX_HITLESS_CONTROL_H

#include <linux/types.h>

/**
 * hitless_left_out() - which parts do not do their work, for tests?
 *
 * Context: Any.
 * Return: what "hitless.break=" was given (CONFIG_HITLESS_BREAK), else "".
 */
const char *hitless_left_out(void);

/**
 * hitless_init() - start glue
 *
 * Context: postcore_initcall, once: after LUO has seen what arrived, before PCI
 * is scanned.
 * Return: 0 or -errno, after which every question is answered with no.
 */
int hitless_init(void);

#endif /* _LINUX_HITLESS_CONTROL_H */
