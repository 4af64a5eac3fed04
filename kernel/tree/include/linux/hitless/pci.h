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
 * @HITLESS_KEEP_RESET: no reset, by whomever: outgoing from freeze on,
 *	incoming until the device is off its restored domain
 * @HITLESS_KEEP_CONFIG: outgoing, from freeze on: user space changes nothing
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
	HITLESS_KEEP_RESET,
	HITLESS_KEEP_CONFIG,
};

/* Facts about a function that has been found. */
enum {
	HITLESS_PCI_BUS_MASTER = 1 << 0,
	/* The previous kernel handed something over. */
	HITLESS_PCI_AFTER_HANDOVER = 1 << 1,
};

/**
 * struct hitless_pci_function - a function that has been found
 * @segment: PCI segment
 * @class_revision: class code and revision, as configuration space has them
 * @facts: HITLESS_PCI_*
 * @bdf: bus, device and function
 * @vendor: vendor
 * @device: device
 * @subsystem_vendor: vendor of the subsystem, 0 for a bridge
 * @subsystem_device: device of the subsystem, 0 for a bridge
 * @reserved: 0
 */
struct hitless_pci_function {
	u32 segment;
	u32 class_revision;
	u32 facts;
	u16 bdf;
	u16 vendor;
	u16 device;
	u16 subsystem_vendor;
	u16 subsystem_device;
	u16 reserved;
};

#ifdef CONFIG_HITLESS

/**
 * hitless_pci_arrives() - a function has been found: what is to be left alone?
 * @function: the function
 * @stop: it may be running and may not go on
 *
 * Context: PCI enumeration, before any quirk. May sleep.
 * Return: the bits of enum hitless_keep, and *@stop.
 */
unsigned long hitless_pci_arrives(const struct hitless_pci_function *function,
				  bool *stop);

/**
 * hitless_seam_pci_segment() - the PCI segment of a function
 * @pdev: the function
 *
 * Context: Any.
 */
u32 hitless_seam_pci_segment(struct pci_dev *pdev);

/**
 * hitless_seam_pci_keep() - set or clear bits of a function
 * @pdev: the function
 * @set: bits of enum hitless_keep to set
 * @clear: bits to clear
 *
 * Context: Any.
 */
void hitless_seam_pci_keep(struct pci_dev *pdev, unsigned long set,
			   unsigned long clear);

/**
 * hitless_seam_pci_settle() - wait for what user space is doing to a function
 * @pdev: the function
 * @patience_ms: how long to wait, in milliseconds
 *
 * Resets and writes of configuration space that began before bits were set are
 * over afterwards.
 *
 * Context: May sleep; takes the device's lock.
 * Return: false if somebody holds the lock for longer.
 */
bool hitless_seam_pci_settle(struct pci_dev *pdev, u32 patience_ms);

/**
 * hitless_dev_keeps() - is something to be left alone on a device?
 * @dev: any device
 * @what: what it is about
 *
 * What is not PCI never takes part.
 *
 * Context: Any.
 * Return: true if it is to be left alone.
 */
static inline bool hitless_dev_keeps(struct device *dev, enum hitless_keep what)
{
	return dev_is_pci(dev) && test_bit(what, &to_pci_dev(dev)->liveupdate);
}

/**
 * pci_liveupdate_setup_device() - a function has been found
 * @dev: the function
 *
 * What is to be left alone on it is asked for. Bus mastering of one that was
 * left running without being recorded is switched off here, before anything
 * could give it a domain.
 *
 * Context: PCI enumeration, before any quirk. May sleep.
 */
void pci_liveupdate_setup_device(struct pci_dev *dev);

/**
 * pci_liveupdate_refuses_bus_reset() - may a bus not be reset?
 * @bus: the bus
 *
 * Context: Any in which the functions on and below the bus stay.
 * Return: true if there is one that must not be reset.
 */
bool pci_liveupdate_refuses_bus_reset(struct pci_bus *bus);

#else /* CONFIG_HITLESS */

static inline bool hitless_dev_keeps(struct device *dev, enum hitless_keep what)
{
	return false;
}

static inline void pci_liveupdate_setup_device(struct pci_dev *dev) { }

static inline bool pci_liveupdate_refuses_bus_reset(struct pci_bus *bus)
{
	return false;
}

#endif /* CONFIG_HITLESS */

/**
 * pci_liveupdate_is_outgoing() - does a function go on into the next kernel?
 * @dev: the function
 *
 * Context: Any.
 * Return: true for a device that is preserved and for each bridge above it.
 */
static inline bool pci_liveupdate_is_outgoing(struct pci_dev *dev)
{
	return hitless_dev_keeps(&dev->dev, HITLESS_KEEP_BUS_MASTER);
}

/**
 * pci_liveupdate_is_incoming() - did a function arrive running?
 * @dev: the function
 *
 * Context: Any.
 * Return: true for a device that was preserved and is not finished, and for
 * each bridge above it.
 */
static inline bool pci_liveupdate_is_incoming(struct pci_dev *dev)
{
	return hitless_dev_keeps(&dev->dev, HITLESS_KEEP_STATE);
}

/**
 * pci_liveupdate_refuses_reset() - may a function not be reset?
 * @dev: the function
 *
 * Context: Any. The answer lasts as long as the device's lock is held.
 * Return: true from freeze until the next kernel's user space has the device.
 */
static inline bool pci_liveupdate_refuses_reset(struct pci_dev *dev)
{
	return hitless_dev_keeps(&dev->dev, HITLESS_KEEP_RESET);
}

/**
 * pci_liveupdate_is_frozen() - may user space change nothing about a function?
 * @dev: the function
 *
 * Context: Any.
 * Return: true from freeze on.
 */
static inline bool pci_liveupdate_is_frozen(struct pci_dev *dev)
{
	return hitless_dev_keeps(&dev->dev, HITLESS_KEEP_CONFIG);
}

#endif /* _LINUX_HITLESS_PCI_H */
