/** The instance that a client certificate names. It is read from the bytes of the certificate, since the texts that the
 *  runtimes make of them differ, and a name may be written to look like several. RFC 5280, X.690. */
import { IpamError } from './error.ts';
import { type InstanceId, parseInstanceId } from './ids.ts';

/** The instance of a client; null: its certificate names none. `nameless`: it is that of somebody else than a Docker host.
 *  `misnamed`: it is that of a Docker host, and does not name it as it should. `why`: for people. */
export type Identity =
  | { readonly instance: InstanceId; readonly why: null }
  | {
      readonly instance: null;
      readonly fault: 'nameless' | 'misnamed' | 'unreadable';
      readonly why: string;
    };

const PREFIX = 'ec2-ipam://instance/';
/** The URI of an instance in the subjectAltName of its certificate. */
export const instanceUri = (instance: InstanceId): string => `${PREFIX}${instance}`;

// Object identifiers as they are encoded: 2.5.29.17 and 2.5.4.3.
const SUBJECT_ALT_NAME = '55 1d 11';
const COMMON_NAME = '55 04 03';

/** Tags of the elements that are read. */
const SEQUENCE = 0x30;
const EXTENSIONS = 0xa3;
const OCTETS = 0x04;
const OBJECT_ID = 0x06;
const VERSION = 0xa0;
const URI = 0x86;
/** The elements of the certificate before and after the subject: serial number, algorithm, issuer, validity. */
const BEFORE_SUBJECT = 4;

/** `der`: the certificate as the peer sent it. Its signature has been checked. A URI of the subjectAltName decides; the
 *  common name counts only without a subjectAltName. */
export function identityIn(der: Uint8Array): Identity {
  try {
    const { uris, commonNames } = namesIn(der);
    if (uris === null)
      return identityOf(
        commonNames.filter(name => /^i-/i.test(name)),
        'CN=',
      );
    const ours = uris.filter(uri => /^ec2-ipam:/i.test(uri));
    return identityOf(
      ours.map(uri => (uri.startsWith(PREFIX) ? uri.slice(PREFIX.length) : uri)),
      'URI:',
    );
  } catch (error) {
    if (error instanceof IpamError) return { instance: null, fault: 'unreadable', why: error.message };
    throw error;
  }
}

function identityOf(names: readonly string[], kind: string): Identity {
  const [first, ...others] = new Set(names);
  if (first === undefined) return { instance: null, fault: 'nameless', why: 'it names no instance' };
  if (others.length > 0) return { instance: null, fault: 'misnamed', why: 'it names several' };
  try {
    return { instance: parseInstanceId(first, kind), why: null };
  } catch (error) {
    if (error instanceof IpamError) return { instance: null, fault: 'misnamed', why: error.message };
    throw error;
  }
}

/** `uris`: of the subjectAltName; null: the certificate has none. */
function namesIn(der: Uint8Array): { uris: string[] | null; commonNames: string[] } {
  const [certificate] = elementsOf(der);
  const [signed] = elementsOf(contentOf(certificate, SEQUENCE));
  const parts = elementsOf(contentOf(signed, SEQUENCE));
  const [first] = parts;
  const subject = parts[(first?.tag === VERSION ? 1 : 0) + BEFORE_SUBJECT];
  const commonNames = elementsOf(contentOf(subject, SEQUENCE))
    .flatMap(({ content }) => elementsOf(content))
    .map(({ content }) => elementsOf(content))
    .flatMap(([type, value]) => (isObject(type, COMMON_NAME) && value ? [textOf(value)] : []));
  const extensions = parts.find(({ tag }) => tag === EXTENSIONS);
  const [list] = extensions === undefined ? [] : elementsOf(extensions.content);
  const uris = (list === undefined ? [] : elementsOf(list.content))
    .map(({ content }) => elementsOf(content))
    .filter(([type]) => isObject(type, SUBJECT_ALT_NAME))
    .map(extension => extension.find(({ tag }) => tag === OCTETS))
    .map(value => elementsOf(contentOf(value, OCTETS)))
    .map(([names]) =>
      elementsOf(contentOf(names, SEQUENCE))
        .filter(({ tag }) => tag === URI)
        .map(textOf),
    );
  return { uris: uris.length === 0 ? null : uris.flat(), commonNames };
}

interface Element {
  readonly tag: number;
  readonly content: Uint8Array;
}

/** The elements that the bytes consist of. Throws bad-request. */
function elementsOf(bytes: Uint8Array): Element[] {
  const elements: Element[] = [];
  for (let at = 0; at < bytes.length; ) {
    const [tag = 0, short = 0x80] = bytes.subarray(at, at + 2);
    const lengthBytes = short < 0x80 ? 0 : short - 0x80;
    const long = bytes.subarray(at + 2, at + 2 + lengthBytes);
    const length = short < 0x80 ? short : long.reduce((sum, byte) => sum * 256 + byte, 0);
    const from = at + 2 + lengthBytes;
    const isOdd = short === 0x80 || lengthBytes > 4 || long.length < lengthBytes;
    if (isOdd || from + length > bytes.length) throw malformed();
    elements.push({ tag, content: bytes.subarray(from, from + length) });
    at = from + length;
  }
  return elements;
}

function contentOf(element: Element | undefined, tag: number): Uint8Array {
  if (element?.tag !== tag) throw malformed();
  return element.content;
}

const isObject = (element: Element | undefined, id: string): boolean =>
  element?.tag === OBJECT_ID &&
  [...element.content].map(byte => byte.toString(16).padStart(2, '0')).join(' ') === id;

/** Ids have ASCII characters only. Whatever else a name has, it is no id then. */
const textOf = ({ content }: Element): string => String.fromCharCode(...content.subarray(0, 256));

const malformed = (): IpamError => new IpamError('bad-request', 'it cannot be read');
