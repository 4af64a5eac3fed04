// SPDX-License-Identifier: GPL-2.0-only
/*
 * PCI's seam to hitless: the bits of a function that say what is to be left
 * alone, and functions that are found running. Which ones, and when, is
 * decided in drivers/hitless.
 */

#include <linux/delay.h>
#include <linux/hitless/pci.h>
#include <linux/jiffies.h>
#include <linux/kexec_handover.h>

u32 hitless_seam_pci_segment(struct pci_dev *pdev)
{
	return pci_domain_nr(pdev->bus);
}

void hitless_seam_pci_keep(struct pci_dev *pdev, unsigned long set,
			   unsigned long clear)
{
	unsigned long bit;

	for_each_set_bit(bit, &clear, BITS_PER_LONG)
		clear_bit(bit, &pdev->liveupdate);
	for_each_set_bit(bit, &set, BITS_PER_LONG)
		set_bit(bit, &pdev->liveupdate);
}

static bool lock_within(struct device *dev, unsigned int patience_ms)
{
	unsigned long until = jiffies + msecs_to_jiffies(patience_ms);

	while (!device_trylock(dev)) {
		if (time_after(jiffies, until))
			return false;
		msleep(10);
	}
	return true;
}

bool hitless_seam_pci_settle(struct pci_dev *pdev, u32 patience_ms)
{
	if (!lock_within(&pdev->dev, patience_ms))
		return false;
	pci_cfg_access_lock(pdev);
	pci_cfg_access_unlock(pdev);
	device_unlock(&pdev->dev);
	return true;
}

bool pci_liveupdate_refuses_bus_reset(struct pci_bus *bus)
{
	struct pci_dev *dev;

	list_for_each_entry(dev, &bus->devices, bus_list)
		if (pci_liveupdate_refuses_reset(dev) ||
		    (dev->subordinate &&
		     pci_liveupdate_refuses_bus_reset(dev->subordinate)))
			return true;
	return false;
}

static bool is_bus_master(struct pci_dev *dev)
{
	u16 command = 0;

	pci_read_config_word(dev, PCI_COMMAND, &command);
	return command & PCI_COMMAND_MASTER;
}

void pci_liveupdate_setup_device(struct pci_dev *dev)
{
	struct hitless_pci_function function = {
		.segment = pci_domain_nr(dev->bus),
		.bdf = pci_dev_id(dev),
		.vendor = dev->vendor,
		.device = dev->device,
		.class_revision = dev->class << 8 | dev->revision,
	};
	bool stop = false;

	if (is_bus_master(dev))
		function.facts |= HITLESS_PCI_BUS_MASTER;
	if (is_kho_boot())
		function.facts |= HITLESS_PCI_AFTER_HANDOVER;
	if (dev->hdr_type == PCI_HEADER_TYPE_NORMAL) {
		pci_read_config_word(dev, PCI_SUBSYSTEM_VENDOR_ID,
				     &function.subsystem_vendor);
		pci_read_config_word(dev, PCI_SUBSYSTEM_ID,
				     &function.subsystem_device);
	}
	dev->liveupdate = hitless_pci_arrives(&function, &stop);
	if (!stop)
		return;
	pci_clear_master(dev);
	if (is_bus_master(dev))
		pci_warn(dev, "hitless: it stays bus master whatever is done\n");
	else
		pci_warn(dev, "hitless: it was left running: stopped\n");
}
