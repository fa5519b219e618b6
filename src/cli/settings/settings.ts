/** The table of all settings, and which settings each command has. */
import { resolve } from 'node:path';
import { LOG_LEVELS } from '../../domain/log.ts';
import { AUTHORIZE } from '../../domain/origin.ts';
import {
  duration,
  enrolledRole,
  type Kind,
  listenAddress,
  octalMode,
  oneOf,
  onOff,
  passphrase,
  percentage,
  serverUrl,
  socketPath,
  storeUrl,
  text,
  wholeNumber,
} from './value-parsers.ts';

/** What a default may depend on, besides the settings above it. */
export interface Facts {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly home: string;
  readonly isRoot: boolean;
  readonly isTerminal: boolean;
}
/** The text of a setting that stands above. */
type Earlier = (flag: string) => string;

export interface Setting<T> {
  /** The flag without dashes. The names in the environment and in the JSON file derive from it. */
  readonly flag: string;
  readonly kind: Kind<unknown>;
  /** `list`: a repeatable flag, or with commas in the environment. `secret`: no flag; only in the environment or a
   *  file. */
  readonly shape: 'one' | 'list' | 'secret';
  /** As on the command line; null: none. `said` describes a computed one. */
  readonly fallback: string | null | { readonly said: string; of(facts: Facts, earlier: Earlier): string };
  readonly help: string;
  /** Only for the type. */
  readonly type?: T;
}

type Spec<T> = Omit<Setting<T>, 'kind' | 'shape' | 'type'> & { readonly kind: Kind<T> };
const one = <T>(spec: Spec<T> & { fallback: NonNullable<Spec<T>['fallback']> }): Setting<T> => ({
  ...spec,
  shape: 'one',
});
const optional = <T>(spec: Omit<Spec<T>, 'fallback'>): Setting<T | null> => ({
  ...spec,
  fallback: null,
  shape: 'one',
});
const list = <T>(spec: Spec<T>): Setting<readonly T[]> => ({ ...spec, shape: 'list' });
const secret = (spec: Omit<Spec<string>, 'fallback'>): Setting<string | null> => ({
  ...spec,
  fallback: null,
  shape: 'secret',
});

/** Where dockerd looks for this plugin by its name. */
const PLUGIN_SOCKET = '/run/docker/plugins/ec2-ipam.sock';
/** The default of --listen in the previous release. dockerd keeps the address of a plugin until it is restarted, so
 *  `serve` listens there too for one release. */
export const FORMER_LISTEN = { kind: 'http', host: '127.0.0.1', port: 8031 } as const;

const pemFile = text('FILE', 'the path of a PEM file');

/** All settings, by their names in Config. A default may depend on settings above it. */
export const SETTINGS = {
  config: optional({
    flag: 'config',
    kind: text('FILE', 'the path of a JSON file'),
    help: 'configuration file in JSON; its keys are these flags in camelCase',
  }),
  stateDir: one({
    flag: 'state-dir',
    kind: text('FOLDER', 'the path of a folder'),
    fallback: { said: "/var/lib/ec2-ipam for root, else the user's state directory", of: stateFolder },
    help: 'folder of an embedded store, of the key of an agent, and of the socket of a user other than root',
  }),
  listen: list({
    flag: 'listen',
    kind: listenAddress,
    fallback: {
      said: `unix:${PLUGIN_SOCKET} for root, else a socket in the state directory`,
      of: ({ isRoot }, earlier) =>
        `unix:${isRoot ? PLUGIN_SOCKET : `${resolve(earlier('state-dir'))}/ec2-ipam.sock`}`,
    },
    help: 'address to listen on; repeatable',
  }),
  adminListen: optional({
    flag: 'admin-listen',
    kind: listenAddress,
    help: 'address for pages, their API, /healthz, /readyz and /metrics, apart from those for Docker: http on loopback, unix, or https with --tls-client-ca',
  }),
  tlsCert: optional({
    flag: 'tls-cert',
    kind: pemFile,
    help: 'certificate chain of an https listener',
  }),
  tlsKey: optional({
    flag: 'tls-key',
    kind: pemFile,
    help: 'private key of that certificate',
  }),
  tlsClientCa: optional({
    flag: 'tls-client-ca',
    kind: pemFile,
    help: 'authority that signs certificates of clients of an https listener; needed unless hosts enrol',
  }),
  enrollRole: list({
    flag: 'enroll-role',
    kind: enrolledRole,
    fallback: null,
    help: 'role whose instances may enrol as hosts at an https listener; =PROFILE where the instance profile has another name; repeatable',
  }),
  authorityKey: secret({
    flag: 'authority-key',
    kind: passphrase,
    help: 'what the private key of the authority for enrolled hosts is encrypted with in the ledger; at least 20 characters',
  }),
  server: list({
    flag: 'server',
    kind: serverUrl,
    fallback: null,
    help: 'central server of an agent; repeatable: another one is asked while one is away',
  }),
  serverCa: optional({
    flag: 'server-ca',
    kind: pemFile,
    help: 'authority that signed the certificates of the servers; else those of the system are trusted',
  }),
  allowUnauthenticated: one({
    flag: 'allow-unauthenticated',
    kind: onOff,
    fallback: 'off',
    help: 'permit http beyond loopback, where every client that reaches the port can use the pool',
  }),
  authorize: one({
    flag: 'authorize',
    kind: oneOf(...AUTHORIZE),
    fallback: 'instance',
    help: 'what clients of an https listener may use: the ENIs of the instance that their certificate names, or any',
  }),
  socketMode: one({
    flag: 'socket-mode',
    kind: octalMode,
    fallback: '0600',
    help: 'permissions of a unix socket',
  }),
  store: one({
    flag: 'store',
    kind: storeUrl,
    fallback: {
      said: 'sqlite: in the state directory',
      of: (_, earlier) => embeddedStore(earlier('state-dir')),
    },
    help: 'the ledger: sqlite:/path, or mysql://user@host:3306/ipam?ssl=on',
  }),
  storePassword: secret({
    flag: 'store-password',
    kind: text('PASSWORD', 'a password'),
    help: 'password of the store',
  }),
  history: one({
    flag: 'history',
    kind: onOff,
    fallback: 'on',
    help: 'note in the ledger who held which address, for 30 days',
  }),
  warmMin: one({
    flag: 'warm-min',
    kind: wholeNumber(0, 1000),
    fallback: '2',
    help: 'ready addresses kept on each ENI, at least',
  }),
  warmMax: one({
    flag: 'warm-max',
    kind: wholeNumber(0, 1000),
    fallback: '6',
    help: "ready addresses kept on each ENI, at most; both are capped at the ENI's room",
  }),
  cooldownMs: one({
    flag: 'cooldown',
    kind: duration('0s', '24h'),
    fallback: '30s',
    help: 'rest of a released address before it is given again on the same ENI',
  }),
  quarantineMs: one({
    flag: 'quarantine',
    kind: duration('0s', '24h'),
    fallback: '10m',
    help: 'rest of a released address before it is given on another ENI',
  }),
  strictReuse: one({
    flag: 'strict-reuse',
    kind: onOff,
    fallback: 'off',
    help: 'refuse a start instead of giving an address that has not rested',
  }),
  confirmMoves: one({
    flag: 'confirm-moves',
    kind: onOff,
    fallback: 'on',
    help: 'give an address that was just on another ENI only when EC2 shows it on the new one, or after 2 s',
  }),
  requestTimeoutMs: one({
    flag: 'request-timeout',
    kind: duration('100ms', '10m'),
    fallback: '120s',
    help: 'longest wait of a request from Docker',
  }),
  ec2SharePercent: one({
    flag: 'ec2-share',
    kind: percentage(1, 100),
    fallback: {
      said: '50% with a mysql store, 5% with an embedded one',
      of: (_, earlier) => (earlier('store').startsWith('mysql:') ? '50%' : '5%'),
    },
    help: "part of the account's EC2 request tokens that may be used",
  }),
  callDeadlineMs: one({
    flag: 'call-deadline',
    kind: duration('100ms', '60s'),
    fallback: '20s',
    help: 'age of an intent (an EC2 call, noted before it is sent) after which the call is not sent',
  }),
  intentGraceMs: one({
    flag: 'intent-grace',
    kind: duration('1s', '1h'),
    fallback: '930s',
    help: 'age after which an intent without a result is taken over; below 925s only for tests with the simulator',
  }),
  reconcileEveryMs: one({
    flag: 'reconcile-every',
    kind: duration('1s', '24h'),
    fallback: '60s',
    help: 'pause between two comparisons of ledger and EC2; 10 minutes for an embedded ledger at rest',
  }),
  dockerSocket: one({
    flag: 'docker-socket',
    kind: socketPath,
    fallback: '/var/run/docker.sock',
    help: "Docker's socket, from which an embedded server or an agent reads which addresses are in use; off: it does not",
  }),
  witness: one({
    flag: 'witness',
    kind: oneOf('off', 'report', 'release'),
    fallback: 'report',
    help: 'what to do with a held address that Docker and the kernel do not show: nothing, report it, or release it',
  }),
  witnessEveryMs: one({
    flag: 'witness-every',
    kind: duration('1s', '1h'),
    fallback: '60s',
    help: 'pause between two readings of the host',
  }),
  witnessAgeMs: one({
    flag: 'witness-age',
    kind: duration('1s', '24h'),
    fallback: '120s',
    help: 'age of a holding, and time between two readings, before it ends by evidence; below 120s only for tests',
  }),
  logFormat: one({
    flag: 'log-format',
    kind: oneOf('json', 'pretty'),
    fallback: {
      said: 'pretty on a terminal, else json',
      of: facts => (facts.isTerminal ? 'pretty' : 'json'),
    },
    help: 'format of the log',
  }),
  logLevel: one({
    flag: 'log-level',
    kind: oneOf(...LOG_LEVELS),
    fallback: 'info',
    help: 'lowest level that is logged',
  }),
} as const satisfies Record<string, Setting<unknown>>;

export type SettingName = keyof typeof SETTINGS;
export type ValueOf<S> = S extends Setting<infer T> ? T : never;

export const settingNames = Object.keys(SETTINGS) as SettingName[];

/** `warm-min` → `EC2_IPAM_WARM_MIN`. */
export const environmentName = (flag: string): string =>
  `EC2_IPAM_${flag.toUpperCase().replaceAll('-', '_')}`;

/** `warm-min` → `warmMin`. */
export const jsonKey = (flag: string): string => flag.replace(/-(\w)/g, (_, letter) => letter.toUpperCase());

export const embeddedStore = (stateDir: string): string => `sqlite:${resolve(stateDir)}/ledger.sqlite`;

/** The state folder of systemd (the first of a list with colons), of root, or of the user by XDG. */
function stateFolder({ env, home, isRoot }: Facts): string {
  const [fromSystemd = ''] = (env.STATE_DIRECTORY ?? '').split(':');
  if (fromSystemd !== '') return fromSystemd;
  return isRoot ? '/var/lib/ec2-ipam' : `${env.XDG_STATE_HOME || `${home}/.local/state`}/ec2-ipam`;
}

// Which settings a command has.
const LOG_AND_FILE = ['config', 'logFormat', 'logLevel'] as const satisfies readonly SettingName[];
const AGENT_ONLY: readonly SettingName[] = ['server', 'serverCa'];
export const AGENT_SETTINGS: readonly SettingName[] = [
  ...LOG_AND_FILE,
  ...AGENT_ONLY,
  'listen',
  'socketMode',
  'stateDir',
  'requestTimeoutMs',
  'dockerSocket',
  'witnessEveryMs',
];
export const SERVE_SETTINGS: readonly SettingName[] = settingNames.filter(name => !AGENT_ONLY.includes(name));
/** The settings of commands that only use the store. */
export const STORE_SETTINGS: readonly SettingName[] = [...LOG_AND_FILE, 'stateDir', 'store', 'storePassword'];
/** What says how a host is served. */
export const DOCTOR_SETTINGS: readonly SettingName[] = [...STORE_SETTINGS, ...AGENT_ONLY, 'dockerSocket'];
/** The settings of commands that call EC2 too. */
export const LEDGER_SETTINGS: readonly SettingName[] = [
  ...STORE_SETTINGS,
  'history',
  'callDeadlineMs',
  'intentGraceMs',
  'cooldownMs',
  'quarantineMs',
];
export const SIMULATE_SETTINGS: readonly SettingName[] = [
  ...LOG_AND_FILE,
  'listen',
  'socketMode',
  'tlsCert',
  'tlsKey',
  'tlsClientCa',
  'allowUnauthenticated',
];
export const DEMO_SETTINGS: readonly SettingName[] = ['logFormat', 'logLevel'];
