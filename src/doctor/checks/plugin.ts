/** How Docker finds the driver, and whether that answers. */
import { broken, ok, type Verdict } from '../finding.ts';
import type { Files } from '../host.ts';
import { DRIVER } from './networks.ts';

/** Docker looks here in this order, and uses the first that it finds.
 *  https://docs.docker.com/engine/extend/plugin_api/#plugin-discovery */
const SOCKETS = [`/run/docker/plugins/${DRIVER}.sock`, `/run/docker/plugins/${DRIVER}/${DRIVER}.sock`];
const FOLDERS = ['/etc/docker/plugins', '/usr/lib/docker/plugins'];
/** Docker does not look into /run/docker/plugins for specs, but people put them there. */
const IN_VAIN = ['json', 'spec'].map(ending => `/run/docker/plugins/${DRIVER}.${ending}`);

export interface TlsPaths {
  readonly ca: string | null;
  readonly cert: string | null;
  readonly key: string | null;
}
/** Where Docker sends the driver's calls. */
export interface PluginAddress {
  /** The file that says so. */
  readonly path: string;
  /** `unix:///path`, `http://host:port` or `https://host:port`. */
  readonly url: string;
  readonly tls: TlsPaths | null;
}

/** The addresses in the order in which Docker looks for them; a string for a file that names none. */
export async function pluginsOf(files: Files): Promise<(PluginAddress | string)[]> {
  const found: (PluginAddress | string)[] = [];
  for (const path of SOCKETS)
    if ((await files.stat(path))?.kind === 'socket') found.push({ path, url: `unix://${path}`, tls: null });
  for (const ending of ['spec', 'json'])
    for (const folder of FOLDERS)
      for (const path of [`${folder}/${DRIVER}.${ending}`, `${folder}/${DRIVER}/${DRIVER}.${ending}`]) {
        if ((await files.stat(path)) === null) continue;
        const text = (await files.text(path)) ?? '';
        found.push(ending === 'spec' ? specIn(text, path) : jsonIn(text, path));
      }
  return found;
}

const specIn = (text: string, path: string): PluginAddress | string => addressIn(text.trim(), null, path);

function jsonIn(text: string, path: string): PluginAddress | string {
  let json: { Addr?: unknown; TLSConfig?: Record<string, unknown> | null };
  try {
    json = JSON.parse(text) ?? {};
  } catch {
    return path;
  }
  const file = (name: string): string | null => {
    const value = json.TLSConfig?.[name];
    return typeof value === 'string' && value !== '' ? value : null;
  };
  const hasTls = typeof json.TLSConfig === 'object' && json.TLSConfig !== null;
  const tls = hasTls ? { ca: file('CAFile'), cert: file('CertFile'), key: file('KeyFile') } : null;
  return addressIn(String(json.Addr ?? ''), tls, path);
}

function addressIn(text: string, tls: TlsPaths | null, path: string): PluginAddress | string {
  const url = text.replace(/^tcp:/, tls === null ? 'http:' : 'https:').replace(/^unix:(?=\/[^/])/, 'unix://');
  if (/^unix:\/\/\/./.test(url))
    return { path, url: url.replace(/^unix:\/\/\/var\/run\//, 'unix:///run/').replace(/\/$/, ''), tls };
  if (!/^https?:/.test(url) || !URL.canParse(url)) return path;
  // Docker uses no more of it. The rest may be a secret: a password, or a token in the query.
  return { path, url: new URL(url).origin, tls };
}

/** The same text for addresses that reach the same listener. */
const placeOf = ({ url }: PluginAddress): string =>
  url.replace(/(?<=^https?:\/\/)localhost(?=:|$)/, '127.0.0.1');

/** What Docker finds under the name of the driver. `start`: how the server or the agent of this host is started. */
export async function judgeSpecs(
  plugins: readonly (PluginAddress | string)[],
  files: Files,
  start: string,
): Promise<Verdict[]> {
  const spoilt = plugins.filter(one => typeof one === 'string');
  if (spoilt.length > 0)
    return spoilt.map(path =>
      broken(
        `${path} names no address of a plugin`,
        `put Addr as in ec2-ipam.json there, or delete it: rm ${path}`,
      ),
    );
  const all = plugins as readonly PluginAddress[];
  const [first, ...more] = all;
  if (first === undefined) {
    const vain = (
      await Promise.all(IN_VAIN.map(async path => ((await files.stat(path)) ? path : null)))
    ).find(Boolean);
    return [
      broken(
        `Docker finds no plugin ${DRIVER}: no socket in /run/docker/plugins, no spec in ${FOLDERS.join(' or ')}${vain ? `; it does not look at ${vain}` : ''}`,
        `${start}; where it listens elsewhere, put ec2-ipam.json with that address into /etc/docker/plugins`,
      ),
    ];
  }
  const other = more.find(one => placeOf(one) !== placeOf(first));
  if (other !== undefined)
    return [
      broken(
        `two drivers have the name ${DRIVER}: Docker uses ${first.url} (${first.path}), not ${other.url} (${other.path})`,
        `keep the one that is meant: rm ${other.path}, or rm ${first.path}; then restart Docker`,
      ),
    ];
  return [ok(`Docker finds ${first.url}, by ${all.map(({ path }) => path).join(' and ')}`)];
}

/** An answer to Plugin.Activate, or why there is none; `unread`: a file that the spec names and that cannot be read. */
export type Activated =
  | { readonly status: number; readonly text: string }
  | { readonly why: string }
  | { readonly unread: string };

export function judgeAnswer({ path, url }: PluginAddress, answer: Activated, start: string): Verdict {
  if ('unread' in answer)
    return broken(
      `${path} names ${answer.unread}, which cannot be read`,
      `put the file there, or correct ${path}; then restart Docker`,
    );
  if ('why' in answer) {
    if (/EACCES|EPERM/.test(answer.why))
      return broken(`${url} may not be used: ${answer.why}`, 'run this as root');
    return broken(`nothing answers at ${url}: ${answer.why}`, start);
  }
  const { status, text } = answer;
  if (status === 200 && implementsIpam(text)) return ok(`an IPAM driver answers at ${url}`);
  return broken(
    `what answers at ${url} is no IPAM driver: status ${status}`,
    `see what listens there, then: ${start}`,
  );
}

function implementsIpam(text: string): boolean {
  try {
    const { Implements } = JSON.parse(text) as { Implements?: unknown };
    return Array.isArray(Implements) && Implements.includes('IpamDriver');
  } catch {
    return false;
  }
}

/** The certificates of this host that specs name. */
export const certificatesOf = (plugins: readonly (PluginAddress | string)[]): string[] =>
  plugins.flatMap(one => (typeof one === 'string' || !one.tls?.cert ? [] : [one.tls.cert]));

/** The private keys that specs name. */
export const keysOf = (plugins: readonly (PluginAddress | string)[]): string[] =>
  plugins.flatMap(one => (typeof one === 'string' || !one.tls?.key ? [] : [one.tls.key]));

/** Whether the calls leave this host. */
export const isElsewhere = ({ url }: PluginAddress): boolean =>
  !url.startsWith('unix:') && !/^https?:\/\/(127\.|localhost|\[::1\])/.test(url);
