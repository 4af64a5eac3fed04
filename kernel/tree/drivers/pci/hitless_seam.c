// SPDX-License-Identifier: GPL-2.0-only
/*
 * PCI's seam to hitless: the bits of a function that say what is to be left
 * alone. Which ones, and when, is decided in drivers/hitless.
 */

#include <linux/hitless/pci.h>

void hitless_seam_pci_keep(u32 segment, u16 bdf, unsigned long set,
			   unsigned long clear)
{
	struct pci_dev *pdev;
	unsigned long bit;

	pdev = pci_get_domain_bus_and_slot(segment, PCI_BUS_NUM(bdf),
					   bdf & 0xff);
	if (!pdev)
		return;
	for_each_set_bit(bit, &clear, BITS_PER_LONG)
		clear_bit(bit, &pdev->liveupdate);
	for_each_set_bit(bit, &set, BITS_PER_LONG)
		set_bit(bit, &pdev->liveupdate);
	pci_dev_put(pdev);
}
