/** The command line as tests call it: what it writes is kept, and its configuration comes from where a test says. */
import type { Io } from '../../src/cli/command.ts';
import { type Config, loadConfig, type Sources } from '../../src/cli/settings/config.ts';
import { SERVE_SETTINGS } from '../../src/cli/settings/settings.ts';

export interface Written {
  out: string;
  err: string;
  /** Both, in the order in which they were written. */
  all: string;
}

/** An Io that nothing ends, and what was written to it. */
export function keptIo(more: Partial<Io> = {}): { io: Io; written: Written } {
  const written: Written = { out: '', err: '', all: '' };
  const output = (to: 'out' | 'err') => ({
    isTerminal: false,
    screen: null,
    reader: () => 'reads' as const,
    write(text: string) {
      written[to] += text;
      written.all += text;
    },
  });
  const io: Io = {
    out: output('out'),
    err: output('err'),
    ask: async () => null,
    signal: new AbortController().signal,
    crashed: new Promise(() => {}),
    ...more,
  };
  return { io, written };
}

export interface Given extends Partial<Omit<Sources, 'flags'>> {
  readonly flags?: Readonly<Record<string, string[]>>;
  /** The contents of /etc/ec2-ipam.json, which is then named by the environment. */
  readonly file?: unknown;
  readonly files?: Readonly<Record<string, string>>;
}
const FILE = '/etc/ec2-ipam.json';

/** The configuration of root, outside a terminal, where nothing else is said. */
export function configOf({ flags = {}, env = {}, file, files = {}, ...rest }: Given = {}): Config {
  const text = typeof file === 'string' ? file : JSON.stringify(file);
  const all: Record<string, string> = file === undefined ? { ...files } : { ...files, [FILE]: text };
  const read = (path: string) => {
    const found = all[path];
    if (found === undefined) throw Object.assign(new Error('no such file'), { code: 'ENOENT' });
    return found;
  };
  return loadConfig({
    flags: new Map(Object.entries(flags)),
    env: file === undefined ? env : { EC2_IPAM_CONFIG: FILE, ...env },
    home: '/home/user',
    isRoot: true,
    isTerminal: false,
    uses: SERVE_SETTINGS,
    readFile: read,
    readPrivate: read,
    ...rest,
  });
}
