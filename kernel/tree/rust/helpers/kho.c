// SPDX-License-Identifier: GPL-2.0-only

#include <linux/io.h>
#include <linux/memory_hotplug.h>
#include <linux/mm.h>

__rust_helper struct page *rust_helper_pfn_to_online_page(unsigned long pfn)
{
	return pfn_to_online_page(pfn);
}

__rust_helper phys_addr_t rust_helper_virt_to_phys(void *address)
{
	return virt_to_phys(address);
}

__rust_helper void *rust_helper_page_address(struct page *page)
{
	return page_address(page);
}

__rust_helper void *rust_helper_folio_address(const struct folio *folio)
{
	return folio_address(folio);
}

__rust_helper void rust_helper_folio_put(struct folio *folio)
{
	folio_put(folio);
}
