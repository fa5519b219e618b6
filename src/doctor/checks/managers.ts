/** Programs of the host that configure interfaces, and whether one of them puts addresses on that of an ENI. */
import { broken, MKNET, ok, type Verdict, warning } from '../finding.ts';
import type { Files } from '../host.ts';
import type { Link } from './links.ts';

/** mknet.sh --persist writes files of this name, which come before those of all others. */
const OURS = '05-ec2-ipam-';
/** A file of an earlier folder hides one of the same name in a later one. */
const NETWORKD_FOLDERS = ['/etc', '/run', '/usr/local/lib', '/usr/lib'].map(
  root => `${root}/systemd/network`,
);
const IFUPDOWN = ['/etc/network/interfaces.d', '/run/network/interfaces.d'];
const NET_UTILS = ['/usr/lib/systemd/system/policy-routes@.service', '/usr/bin/setup-policy-routes'];
const NET_UTILS_1 = '/etc/udev/rules.d/53-ec2-network-interfaces.rules';
/** Names in /proc have 15 characters at most. */
const COMMANDS = { networkd: 'systemd-network', manager: 'NetworkManager' };
const UNITS = {
  networkd: ['dbus-org.freedesktop.network1.service', 'multi-user.target.wants/systemd-networkd.service'],
  manager: ['dbus-org.freedesktop.NetworkManager.service', 'multi-user.target.wants/NetworkManager.service'],
};
type Program = keyof typeof UNITS;

export async function judgeManagers(files: Files, link: Link): Promise<Verdict[]> {
  const isPersisted = await hasOwnFile(files, link.mac);
  const found = [
    await judgeNetworkd(files, link),
    await judgeNetworkManager(files, link),
    await judgeIfupdown(files, link),
    await judgeNetUtils1(files, link),
  ].filter(one => one !== null);
  if (found.length > 0) return found;
  return isPersisted
    ? [ok(`nothing puts addresses on ${link.name}, and mknet.sh brings it up at boot`)]
    : [warning(`nothing brings ${link.name} up at the next boot`, `${MKNET} --persist ${link.name}`)];
}

/** Whether it runs, or will at the next boot. */
async function isThere(files: Files, program: Program): Promise<boolean> {
  for (const unit of UNITS[program])
    if ((await files.link(`/etc/systemd/system/${unit}`)) !== null) return true;
  for (const pid of await files.names('/proc'))
    if (/^\d+$/.test(pid) && (await files.text(`/proc/${pid}/comm`))?.trim() === COMMANDS[program])
      return true;
  return false;
}

async function hasOwnFile(files: Files, mac: string): Promise<boolean> {
  const folder = NETWORKD_FOLDERS[0] as string;
  for (const name of await files.names(folder))
    if (name.startsWith(OURS) && (await files.text(`${folder}/${name}`))?.includes(`MACAddress=${mac}\n`))
      return true;
  return false;
}

/** systemd-networkd, also for netplan, cloud-init and amazon-ec2-net-utils from version 2 on. */
async function judgeNetworkd(files: Files, link: Link): Promise<Verdict | null> {
  if (!(await isThere(files, 'networkd'))) return null;
  const file = await networkFileFor(files, link);
  if (file === null || file.name.startsWith(OURS) || !configures(file.text)) return null;
  const isNetUtils = (await Promise.all(NET_UTILS.map(path => files.stat(path)))).some(one => one !== null);
  const writer = /netplan|cloud-init/.exec(file.name)?.[0] ?? (isNetUtils ? 'amazon-ec2-net-utils' : null);
  return broken(
    `systemd-networkd puts addresses on ${link.name}, by ${file.path}${writer === null ? '' : ` of ${writer}`}`,
    `${MKNET} --persist ${link.name}, then: ip address flush dev ${link.name}`,
  );
}

interface NetworkFile {
  readonly name: string;
  readonly path: string;
  /** With its drop-ins. */
  readonly text: string;
}

/** The file that systemd-networkd uses for the interface: the first by name that matches. */
async function networkFileFor(files: Files, link: Link): Promise<NetworkFile | null> {
  const paths = new Map<string, string>();
  for (const folder of NETWORKD_FOLDERS)
    for (const name of await files.names(folder))
      if (name.endsWith('.network') && !paths.has(name)) paths.set(name, `${folder}/${name}`);
  const driver = (await files.link(`/sys/class/net/${link.name}/device/driver`))?.split('/').at(-1) ?? null;
  for (const [name, path] of [...paths].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const text = (await files.text(path)) ?? '';
    if (!matches(text, link, driver)) continue;
    const more = await Promise.all(NETWORKD_FOLDERS.map(folder => dropIns(files, `${folder}/${name}.d`)));
    return { name, path, text: [text, ...more].join('\n') };
  }
  return null;
}

async function dropIns(files: Files, folder: string): Promise<string> {
  const names = (await files.names(folder)).filter(name => name.endsWith('.conf'));
  return (await Promise.all(names.map(name => files.text(`${folder}/${name}`)))).join('\n');
}

/** Whether [Match] may be meant for the interface. What is not known here counts as a match. */
function matches(text: string, { name, mac }: Link, driver: string | null): boolean {
  const lines = sectionOf(text, 'Match');
  if (lines.length === 0) return false;
  return lines.every(([key, value]) => {
    if (/^(Permanent)?MACAddress$/.test(key)) return value.toLowerCase().split(/\s+/).includes(mac);
    if (key === 'Name') return globs(value, name);
    if (key === 'Driver') return driver === null ? !value.startsWith('!') : globs(value, driver);
    if (key === 'Type') return globs(value, 'ether');
    return true;
  });
}

/** The settings of a section, in their order. */
const sectionOf = (text: string, section: string): [key: string, value: string][] =>
  text
    .split(/^(?=\[)/m)
    .filter(part => part.startsWith(`[${section}]`))
    .flatMap(part => [...part.matchAll(/^(\w+)\s*=[^\S\n]*(.*?)\s*$/gm)])
    .map(([, key = '', value = '']) => [key, value]);

/** A list of patterns, of which one matches; or with `!` before it none. */
function globs(list: string, text: string): boolean {
  const isNegated = list.startsWith('!');
  const patterns = list.replace(/^!/, '').split(/\s+/);
  const isOne = patterns.some(pattern =>
    new RegExp(
      `^${pattern
        .replace(/[.+^${}()|\\]/g, '\\$&')
        .replace(/\*+/g, '.*')
        .replaceAll('?', '.')}$`,
    ).test(text),
  );
  return isOne !== isNegated;
}

/** Whether the file gives the interface addresses. */
function configures(text: string): boolean {
  const link = new Map(sectionOf(text, 'Link'));
  if (/^(yes|true|1|on)$/i.test(link.get('Unmanaged') ?? '')) return false;
  const network = sectionOf(text, 'Network');
  const dhcp = network.filter(([key]) => key === 'DHCP').at(-1)?.[1] ?? 'no';
  const hasAddress = [...network, ...sectionOf(text, 'Address')].some(
    ([key, value]) => key === 'Address' && value !== '',
  );
  return !/^(no|false|0|off|none)?$/i.test(dhcp) || hasAddress;
}

async function judgeNetworkManager(files: Files, { index, name, mac }: Link): Promise<Verdict | null> {
  if (!(await isThere(files, 'manager'))) return null;
  const state = await files.text(`/run/NetworkManager/devices/${index}`);
  if (/^managed=false$/m.test(state ?? '')) return null;
  for (const folder of [
    '/etc/NetworkManager/conf.d',
    '/usr/lib/NetworkManager/conf.d',
    '/run/NetworkManager/conf.d',
  ])
    for (const file of await files.names(folder))
      for (const [, list = ''] of ((await files.text(`${folder}/${file}`)) ?? '').matchAll(
        /^unmanaged-devices\+?=(.*)$/gm,
      ))
        if (list.split(/[;,\s]+/).some(one => one === `mac:${mac}` || one === `interface-name:${name}`))
          return null;
  const said = `[keyfile]\\nunmanaged-devices+=mac:${mac}\\n`;
  // Without a profile it may make one by itself, when it sees the interface anew.
  const isActive = state === null || /^connection-uuid=./m.test(state);
  const [judge, does] = isActive ? [broken, 'puts'] : [warning, 'may put'];
  return judge(
    `NetworkManager manages ${name}, and ${does} addresses on it`,
    `printf '${said}' >/etc/NetworkManager/conf.d/99-ec2-ipam-${name}.conf && nmcli general reload`,
  );
}

async function judgeIfupdown(files: Files, { name }: Link): Promise<Verdict | null> {
  const paths = ['/etc/network/interfaces'];
  for (const folder of IFUPDOWN)
    for (const file of await files.names(folder)) paths.push(`${folder}/${file}`);
  for (const path of paths) {
    const words = [
      ...((await files.text(path)) ?? '').matchAll(
        /^[^\S\n]*iface[^\S\n]+(\S+)[^\S\n]+inet6?[^\S\n]+(\S+)/gm,
      ),
    ];
    if (words.some(([, iface, method]) => iface === name && method !== 'manual'))
      return broken(
        `ifupdown puts addresses on ${name} at boot, by ${path}`,
        `take ${name} out of ${path}, then: ip address flush dev ${name}`,
      );
  }
  return null;
}

/** amazon-ec2-net-utils of Amazon Linux 2, which has files of its own for each interface. */
async function judgeNetUtils1(files: Files, { name }: Link): Promise<Verdict | null> {
  if ((await files.stat(NET_UTILS_1)) === null) return null;
  const path = `/etc/sysconfig/network-scripts/ifcfg-${name}`;
  const text = (await files.text(path)) ?? '';
  if (/^EC2SYNC="?no"?$/m.test(text) && /^BOOTPROTO="?none"?$/m.test(text)) return null;
  return broken(
    `amazon-ec2-net-utils puts every address of the ENI on ${name}`,
    `put the lines DEVICE=${name}, BOOTPROTO=none, ONBOOT=yes and EC2SYNC=no into ${path}, then: ip address flush dev ${name}`,
  );
}
