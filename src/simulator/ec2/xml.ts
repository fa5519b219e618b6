/** What EC2 answers with: a list becomes `<item>`s, what is null is left out. */
export type Xml = string | number | boolean | null | readonly Xml[] | { readonly [name: string]: Xml };

const ENTITIES: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };
// What XML 1.0 has no way to write; https://www.w3.org/TR/xml/#charsets.
const UNWRITABLE = /[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]/gu;

export const escapeXml = (text: string): string =>
  text.replace(UNWRITABLE, '\ufffd').replace(/[&<>"]/g, character => ENTITIES[character] ?? '');

/** The content of an element. */
export function renderXml(value: Xml): string {
  if (value === null) return '';
  if (Array.isArray(value)) return value.map(item => `<item>${renderXml(item)}</item>`).join('');
  if (typeof value !== 'object') return escapeXml(String(value));
  return Object.entries(value as { readonly [name: string]: Xml })
    .filter(([, member]) => member !== null)
    .map(([name, member]) => `<${name}>${renderXml(member)}</${name}>`)
    .join('');
}
