/** A machine whose kernel has ipvlan: QEMU without KVM, Debian's cloud kernel, and on its disk the commands of this
 *  machine with their libraries. It has no network to the outside. Its disk is thrown away when it ends. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { PATH, ROOT } from '../../scripts/tiers.ts';

/** Where scripts/provision/install unpacks the kernel. */
const KERNEL = join(ROOT, 'node_modules/.cache/kernel');
const INIT = fileURLToPath(new URL('init.sh', import.meta.url));
const COMMANDS = `bash busybox node curl ip bridge nft kmod nsenter unshare mariadbd mariadb dockerd docker
  docker-init docker-proxy containerd containerd-shim-runc-v2 runc`.split(/\s+/);
const COMPOSE = '/usr/libexec/docker/cli-plugins/docker-compose';
const MODULES = `net lib crypto fs/overlayfs drivers/block/virtio_blk drivers/net/veth drivers/net/ipvlan
  drivers/net/macvlan`.split(/\s+/);
const FOLDERS =
  'usr/bin usr/sbin usr/lib usr/lib64 usr/local proc sys dev run tmp root out opt etc var/lib'.split(' ');
const DISK_SPARE_MB = 700;
const OUT_BYTES = 64 * 1024 * 1024;
const MEMORY_MB = 3072;
// One boot in some sixty stops before the first process, under emulation; nobody knows why.
const BOOT_LIMIT_MS = 60_000;
const BOOTS_MAX = 3;
const POWER_OFF_MS = 60_000;
const SERIAL_CHARS_SHOWN = 4000;

/** What the machine's disk holds besides commands: paths there, and the files or folders to copy from here. */
export type Files = Readonly<Record<string, string>>;
type Show = (text: string) => void;

/** Boots a machine with the files, of which /vpc/guest.mjs is run; what that leaves in /out is in `folder`/out then.
 *  Returns its exit status. */
export async function runMachine(folder: string, files: Files, limitS: number, show: Show): Promise<number> {
  makeDisk(folder, files);
  const serialLog = () => readFileSync(join(folder, 'serial.log'), 'utf8').slice(-SERIAL_CHARS_SHOWN);
  for (let boot = 1; (await bootOnce(folder, limitS, show)) === 'hung'; boot++) {
    if (boot === BOOTS_MAX) throw new Error(`the machine did not boot:\n${serialLog()}`);
    show(`the machine did not boot within ${BOOT_LIMIT_MS} ms; again\n`);
  }
  const out = join(folder, 'out');
  mkdirSync(out);
  try {
    execFileSync('tar', ['-xf', join(folder, 'out.tar'), '-C', out], { stdio: 'pipe' });
    return Number(readFileSync(join(out, 'status'), 'utf8'));
  } catch {
    throw new Error(`the machine left no results:\n${serialLog()}`);
  }
}

async function bootOnce(folder: string, limitS: number, show: Show): Promise<'ended' | 'hung'> {
  writeFileSync(join(folder, 'out.tar'), '');
  truncateSync(join(folder, 'out.tar'), OUT_BYTES);
  const kernel = `root=/dev/nvme0n1 rw init=/sbin/init console=ttyS0 quiet panic=-1 mitigations=off limit_s=${limitS}`;
  const options = `-machine q35 -accel tcg,thread=multi,tb-size=1024 -cpu Westmere -smp 2 -m ${MEMORY_MB}
    -nodefaults -display none -no-reboot -serial file:serial.log
    -drive if=none,id=root,file=root.ext4,format=raw,snapshot=on,cache=unsafe -device nvme,drive=root,serial=root
    -drive if=none,id=out,file=out.tar,format=raw,cache=unsafe -device virtio-blk-pci,drive=out
    -device virtio-serial-pci -chardev stdio,id=console,signal=off -device virtconsole,chardev=console`;
  const child = spawn(
    'qemu-system-x86_64',
    [...options.split(/\s+/), '-kernel', join(KERNEL, 'vmlinuz'), '-append', kernel],
    { cwd: folder, stdio: ['ignore', 'pipe', 'inherit'], env: { ...process.env, PATH } },
  );
  const kill = () => void child.kill('SIGKILL');
  process.once('exit', kill);
  try {
    return await watch(child, limitS, show);
  } finally {
    process.off('exit', kill);
  }
}

function watch(child: ChildProcess, limitS: number, show: Show): Promise<'ended' | 'hung'> {
  return new Promise((done, failed) => {
    let alive = false;
    const hung = setTimeout(() => alive || child.kill('SIGKILL'), BOOT_LIMIT_MS);
    const limit = setTimeout(() => child.kill('SIGKILL'), BOOT_LIMIT_MS + limitS * 1000 + POWER_OFF_MS);
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      alive = true;
      show(text.replaceAll('\r', ''));
    });
    child.once('error', failed);
    child.once('close', () => {
      clearTimeout(hung);
      clearTimeout(limit);
      done(alive ? 'ended' : 'hung');
    });
  });
}

/** The file system root.ext4 in the folder. */
function makeDisk(folder: string, files: Files): void {
  const root = join(folder, 'root');
  const at = (path: string) => join(root, path);
  for (const path of FOLDERS) mkdirSync(at(path), { recursive: true });
  for (const name of ['bin', 'sbin', 'lib', 'lib64']) symlinkSync(`usr/${name}`, at(name));
  symlinkSync('/run', at('var/run'));
  for (const command of COMMANDS) addCommand(root, command);
  addFile(root, COMPOSE, COMPOSE);
  const applets = execFileSync('busybox', ['--list'], { encoding: 'utf8' }).split('\n').filter(Boolean);
  for (const name of ['modprobe', 'lsmod']) symlinkSync('../bin/kmod', at(`usr/sbin/${name}`));
  for (const name of applets)
    if (!['usr/bin', 'usr/sbin'].some(path => existsSync(at(join(path, name)))))
      symlinkSync('busybox', at(`usr/bin/${name}`));
  addModules(root);
  writeFileSync(at('etc/passwd'), 'root:x:0:0:root:/root:/bin/bash\n');
  writeFileSync(at('etc/group'), 'root:x:0:\n');
  copyFileSync(INIT, at('usr/sbin/init'));
  for (const [path, from] of Object.entries(files)) {
    mkdirSync(dirname(at(path)), { recursive: true });
    cpSync(from, at(path), { recursive: true });
  }
  const usedMb = Number(execFileSync('du', ['-sm', root], { encoding: 'utf8' }).split('\t')[0]);
  const options = '-q -t ext4 -O ^has_journal -m 0 -E root_owner=0:0,lazy_itable_init=1'.split(' ');
  const disk = join(folder, 'root.ext4');
  execFileSync('mke2fs', [...options, '-d', root, disk, `${usedMb + DISK_SPARE_MB}M`], {
    stdio: 'pipe',
    env: { ...process.env, PATH },
  });
  rmSync(root, { recursive: true });
}

function addCommand(root: string, command: string): void {
  const found = PATH.split(':')
    .map(folder => join(folder, command))
    .find(existsSync);
  if (found === undefined) throw new Error(`no ${command} here; run scripts/provision/install`);
  const path = realpathSync(found);
  addFile(root, join('usr/bin', command), path);
}

/** A file, and the libraries that it is linked with. */
function addFile(root: string, path: string, from: string): void {
  const target = join(root, path);
  if (existsSync(target)) return;
  mkdirSync(dirname(target), { recursive: true });
  copyFileSync(from, target);
  for (const library of librariesOf(from)) {
    const inUsr = library.startsWith('/usr/') ? library : join('/usr', library);
    addFile(root, inUsr, library);
  }
}

function librariesOf(path: string): string[] {
  try {
    const text = execFileSync('ldd', [path], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
    return [...text.matchAll(/(\/\S+) \(0x/g)].map(([, library = '']) => library);
  } catch {
    return []; // not linked dynamically
  }
}

/** Only the kernel modules that are needed, unpacked: under emulation that takes long. */
function addModules(root: string): void {
  const release = readdirSync(join(KERNEL, 'modules'))[0] ?? '';
  const from = join(KERNEL, 'modules', release);
  const to = join(root, 'usr/lib/modules', release);
  mkdirSync(to, { recursive: true });
  for (const name of readdirSync(from).filter(name => name.startsWith('modules.')))
    copyFileSync(join(from, name), join(to, name));
  for (const path of readdirSync(join(from, 'kernel'), { recursive: true, encoding: 'utf8' }))
    if (path.includes('.ko') && MODULES.some(wanted => path.startsWith(wanted))) {
      const target = join(to, 'kernel', path);
      mkdirSync(dirname(target), { recursive: true });
      copyFileSync(join(from, 'kernel', path), target);
    }
  execFileSync('bash', ['-c', 'find "$1" -name "*.xz" -exec unxz -T0 {} +', 'unxz', to]);
  execFileSync('depmod', ['-b', root, release], { env: { ...process.env, PATH } });
}
