/* SPDX-License-Identifier: GPL-2.0-only */
/* hitless: what PCI, and everybody who sees PCI devices, asks. */
#ifndef _LINUX_HITLESS_PCI_H
#define _LINUX_HITLESS_PCI_H

#include <linux/bitops.h>
#include <linux/pci.h>
#include <linux/types.h>

/**
 * enum hitless_keep - what is to be left alone on a PCI function
 * @HITLESS_KEEP_BUS_MASTER: outgoing: bus mastering stays on at shutdown
 * @HITLESS_KEEP_ATTACHED: outgoing: the device keeps its HWPT
 * @HITLESS_KEEP_STATE: incoming: no reset, no bus mastering off
 * @HITLESS_KEEP_ATS: incoming: the ATS control is not touched
 * @HITLESS_KEEP_POWER: incoming: no D3 while idle
 * @HITLESS_KEEP_CLOSED: incoming: only LUO opens the device
 *
 * Bits of pci_dev.liveupdate, changed one at a time, by glue only.
 */
enum hitless_keep {
	HITLESS_KEEP_BUS_MASTER,
	HITLESS_KEEP_ATTACHED,
	HITLESS_KEEP_STATE,
	HITLESS_KEEP_ATS,
	HITLESS_KEEP_POWER,
	HITLESS_KEEP_CLOSED,
};

#ifdef CONFIG_HITLESS

/**
 * hitless_pci_arrives() - a function has been found: what is to be left alone?
 * @segment: PCI segment
 * @bdf: bus, device and function
 *
 * Context: PCI enumeration, before any quirk. May sleep.
 * Return: the bits of enum hitless_keep.
 */
unsigned long hitless_pci_arrives(u32 segment, u16 bdf);

/**
 * hitless_seam_pci_keep() - set or clear bits of a function
 * @segment: PCI segment
 * @bdf: bus, device and function
 * @set: bits of enum hitless_keep to set
 * @clear: bits to clear
 *
 * Nothing happens if there is no such function.
 *
 * Context: May sleep.
 */
void hitless_seam_pci_keep(u32 segment, u16 bdf, unsigned long set,
			   unsigned long clear);

/* Any context; what is not PCI never takes part. */
static inline bool hitless_dev_keeps(struct device *dev, enum hitless_keep what)
{
	return dev_is_pci(dev) && test_bit(what, &to_pci_dev(dev)->liveupdate);
}

/* A function has been found: its bits are asked for. */
static inline void pci_liveupdate_setup_device(struct pci_dev *dev)
{
	dev->liveupdate = hitless_pci_arrives(pci_domain_nr(dev->bus),
					      pci_dev_id(dev));
}

#else /* CONFIG_HITLESS */

static inline void pci_liveupdate_setup_device(struct pci_dev *dev) { }

static inline bool hitless_dev_keeps(struct device *dev, enum hitless_keep what)
{
	return false;
}

#endif /* CONFIG_HITLESS */

/* Does the device go on into the next kernel, or is it a bridge above one? */
static inline bool pci_liveupdate_is_outgoing(struct pci_dev *dev)
{
	return hitless_dev_keeps(&dev->dev, HITLESS_KEEP_BUS_MASTER);
}

/* Did it arrive running, and its user has not finished? Bridges above, too. */
static inline bool pci_liveupdate_is_incoming(struct pci_dev *dev)
{
	return hitless_dev_keeps(&dev->dev, HITLESS_KEEP_STATE);
}

#endif /* _LINUX_HITLESS_PCI_H */
