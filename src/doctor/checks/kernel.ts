/** Whether the kernel has ipvlan. */
import { broken, notChecked, ok, type Verdict } from '../finding.ts';
import type { Files } from '../host.ts';

const MODULE = 'ipvlan';

/** Reads /proc, /sys/module, /etc/modprobe.d and /lib/modules of this host. */
export async function judgeKernel(files: Files): Promise<Verdict> {
  const release = (await files.text('/proc/sys/kernel/osrelease'))?.trim() ?? '';
  if (!/^[\w.+~-]+$/.test(release)) return notChecked('/proc does not say which kernel this is');
  const forbidden = await forbiddenIn(files);
  const loaded = await files.text('/proc/modules');
  if (
    loaded?.split('\n').some(line => line.startsWith(`${MODULE} `)) ||
    (await files.stat(`/sys/module/${MODULE}`))
  )
    return ok(`kernel ${release} has ${MODULE}, loaded`);
  const folder = `/lib/modules/${release}`;
  const lists = await Promise.all([
    files.text(`${folder}/modules.builtin`),
    files.text(`${folder}/modules.dep`),
  ]);
  const [builtIn, loadable] = lists.map(list => list !== null && /(^|\/)ipvlan\.ko\b/m.test(list));
  if (builtIn) return ok(`kernel ${release} has ${MODULE}, built in`);
  if (loadable && forbidden !== null)
    return broken(
      `kernel ${release} has ${MODULE}, but ${forbidden} forbids it`,
      `take ${MODULE} out of ${forbidden}`,
    );
  if (loadable) return ok(`kernel ${release} has ${MODULE}, loaded when needed`);
  if (lists.every(list => list === null)) return notChecked(`${folder} cannot be read`);
  return broken(
    `kernel ${release} has no ${MODULE}`,
    `install a kernel with CONFIG_IPVLAN, or its further modules (Ubuntu: linux-modules-extra-${release}; Amazon Linux: kernel-modules-extra)`,
  );
}

/** The file of modprobe that keeps the module from being loaded; `blacklist` alone does not. */
async function forbiddenIn(files: Files): Promise<string | null> {
  for (const folder of ['/etc/modprobe.d', '/run/modprobe.d', '/lib/modprobe.d'])
    for (const name of await files.names(folder)) {
      const text = name.endsWith('.conf') ? await files.text(`${folder}/${name}`) : null;
      if (/^\s*install\s+ipvlan\s+\S*\/(false|true)\b/m.test(text ?? '')) return `${folder}/${name}`;
    }
  return null;
}
