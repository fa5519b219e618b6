/** The configuration of a command, from flags, environment, file and defaults. */
import { resolve } from 'node:path';
import { CLOCK_AHEAD_MS_MAX } from '../../cloud/ec2-time.ts';
import { isLoopback } from '../../domain/address.ts';
import { IpamError, isError } from '../../domain/error.ts';
import { hasPassword } from '../../domain/text.ts';
import { WITNESS_AGE_MS } from '../../domain/witness.ts';
import type { Address, Listener } from '../../http/listener/listen.ts';
import { type AwsSettings, type ConfigFile, parseConfigFile } from './config-file.ts';
import {
  embeddedStore,
  environmentName,
  type Facts,
  FORMER_LISTEN,
  SETTINGS,
  type Setting,
  type SettingName,
  settingNames,
  type ValueOf,
} from './settings.ts';
import { accept } from './value-parsers.ts';

/** Texts of settings, as on the command line. */
export type Defaults = Partial<Readonly<Record<SettingName, string>>>;

type Settings = { readonly [Name in SettingName]: ValueOf<(typeof SETTINGS)[Name]> };

/** The checked configuration. Times are in milliseconds. */
export interface Config extends Omit<Settings, 'listen' | 'adminListen'> {
  readonly listen: readonly Listener[];
  /** Null: nothing is served to those who look after the server. */
  readonly adminListen: Listener | null;
  /** Where to listen too, if that is possible: nothing says where to listen, and dockerd may know the former default. */
  readonly formerListen: Listener | null;
  readonly aws: AwsSettings;
  /** What is wrong with files of secrets that others can read, where the command accepts them. */
  readonly exposed: readonly Pick<IpamError, 'message' | 'hint'>[];
  /** One line for each setting that is accepted but unwise. */
  readonly warnings: readonly string[];
}

export interface Sources extends Facts {
  /** The flags of the command line. */
  readonly flags: ReadonlyMap<string, readonly string[]>;
  /** The text of a file; throws when it can't be read. */
  readonly readFile: (path: string) => string;
  /** The same for a file with a secret. Throws bad-request when others than its owner can read it. `what`: what
   *  names the file. */
  readonly readPrivate: (path: string, what: string) => string;
  /** Whether such a file is read all the same, and complained of in `exposed`. */
  readonly acceptsExposed?: boolean;
  /** The settings of the command. A rule between several settings applies only when the command has all of them. */
  readonly uses: readonly SettingName[];
  /** Other defaults of settings. */
  readonly defaults?: Defaults;
}

/** The text of one setting in one source. */
interface Given {
  /** For error messages: `--warm-min`, `EC2_IPAM_WARM_MIN`, `warmMin in /etc/x.json`. */
  readonly place: string;
  readonly texts: readonly string[];
}

/** The order is flag, environment, file, default. Throws one bad-request with all complaints, one a line. */
export function loadConfig(given: Sources): Config {
  const complaints: string[] = [];
  const exposed: Config['exposed'][number][] = [];
  const sources = given.acceptsExposed ? accepting(given, exposed) : given;
  const file = configFile(sources, complaints);
  const texts = new Map<string, readonly string[]>();
  const values: Record<string, unknown> = {};
  let isListenSaid = false;
  for (const name of settingNames) {
    const setting: Setting<unknown> = SETTINGS[name];
    const said = find(setting, sources, file, complaints);
    const text = said ?? fallback(setting, sources.defaults?.[name], sources, texts);
    if (name === 'listen') isListenSaid = said !== null || sources.defaults?.listen !== undefined;
    texts.set(setting.flag, text.texts);
    values[name] = parsed(setting, text, complaints);
  }
  if (complaints.length > 0) throw badRequest(complaints);
  const settings = values as Settings;
  complaints.push(...contradictions(settings, sources.uses));
  if (complaints.length > 0) throw badRequest(complaints);
  const formerListen = isListenSaid || !sources.uses.includes('listen') ? null : FORMER_LISTEN;
  return deepFreeze({
    ...settings,
    formerListen,
    store: settings.store === 'sqlite:' ? embeddedStore(settings.stateDir) : settings.store,
    listen: settings.listen.map(address => listener(address, settings)),
    adminListen: settings.adminListen && listener(settings.adminListen, settings),
    aws: awsSettings(sources.env, file.aws),
    exposed,
    warnings: [...file.warnings, ...unwise(settings, sources)],
  });
}

/** The same sources, with files of secrets that others can read. */
const accepting = (sources: Sources, exposed: Config['exposed'][number][]): Sources => ({
  ...sources,
  readPrivate(path, what) {
    try {
      return sources.readPrivate(path, what);
    } catch (error) {
      if (!isError(error, 'bad-request')) throw error;
      exposed.push({ message: error.message, hint: error.hint });
      return sources.readFile(path);
    }
  },
});

const badRequest = (complaints: readonly string[]): IpamError =>
  new IpamError('bad-request', complaints.join('\n'));

function configFile(sources: Sources, complaints: string[]): ConfigFile {
  const nothing: ConfigFile = {
    values: new Map(),
    aws: { region: null, credentials: null },
    warnings: [],
    hasSecrets: false,
  };
  const path =
    sources.flags.get(SETTINGS.config.flag)?.at(-1) ?? sources.env[environmentName(SETTINGS.config.flag)];
  if (path === undefined || path === '') return nothing;
  const text = readOr(sources.readFile, path, `--${SETTINGS.config.flag}`, complaints);
  if (text === null) return nothing;
  const file = parseConfigFile(text, path);
  complaints.push(...file.complaints);
  if (file.hasSecrets) readOr(sources.readPrivate, path, `--${SETTINGS.config.flag}`, complaints);
  return file;
}

function readOr(
  read: Sources['readPrivate'],
  path: string,
  place: string,
  complaints: string[],
): string | null {
  try {
    return read(path, place);
  } catch (error) {
    if (isError(error, 'bad-request')) complaints.push(error.line);
    else complaints.push(`${place}: ${path} can't be read: ${(error as { code?: string }).code ?? error}`);
    return null;
  }
}

function find(
  setting: Setting<unknown>,
  sources: Sources,
  file: ConfigFile,
  complaints: string[],
): Given | null {
  const name = environmentName(setting.flag);
  const fromArgv = sources.flags.get(setting.flag);
  if (fromArgv !== undefined) return { place: `--${setting.flag}`, texts: fromArgv };
  const fromEnvironment = sources.env[name];
  if (setting.shape === 'secret') {
    const path = sources.env[`${name}_FILE`];
    if (path !== undefined && fromEnvironment !== undefined)
      complaints.push(`${name} and ${name}_FILE are both set: give one of them`);
    else if (path !== undefined) {
      const secret = readOr(sources.readPrivate, path, `${name}_FILE`, complaints);
      if (secret !== null) return { place: `${name}_FILE`, texts: [secret.replace(/\r?\n$/, '')] };
    }
  }
  if (fromEnvironment !== undefined)
    return {
      place: name,
      texts:
        setting.shape === 'list' ? fromEnvironment.split(',').map(part => part.trim()) : [fromEnvironment],
    };
  return file.values.get(setting.flag) ?? null;
}

function fallback(
  setting: Setting<unknown>,
  ofCommand: string | undefined,
  facts: Facts,
  texts: ReadonlyMap<string, readonly string[]>,
): Given {
  const fallback = ofCommand ?? setting.fallback;
  if (fallback === null) return { place: '', texts: [] };
  const text =
    typeof fallback === 'string' ? fallback : fallback.of(facts, flag => texts.get(flag)?.at(-1) ?? '');
  return { place: `default of --${setting.flag}`, texts: [text] };
}

function parsed(setting: Setting<unknown>, given: Given, complaints: string[]): unknown {
  const values: unknown[] = [];
  for (const text of setting.shape === 'list' ? given.texts : given.texts.slice(-1)) {
    const answer = accept(setting.kind, text);
    if ('value' in answer) values.push(answer.value);
    else
      complaints.push(
        setting.shape === 'secret'
          ? `${given.place} is ${text === '' ? 'empty' : 'too short'}: give ${setting.kind.accepts}`
          : `${given.place} ${answer.complaint}`,
      );
  }
  return setting.shape === 'list' ? values : (values[0] ?? null);
}

type Rule = [uses: SettingName[], broken: (settings: Settings) => boolean, complaint: string];
const RULES: Rule[] = [
  // Only an agent has both: the doctor also looks at hosts without one.
  [
    ['server', 'listen'],
    s => s.server.length === 0,
    'an agent needs a server: give --server https://… once or more',
  ],
  [
    ['listen'],
    s =>
      s.listen.some(a => a.kind === 'https') &&
      !(s.tlsCert && s.tlsKey && (s.tlsClientCa || s.enrollRole.length > 0)),
    'an https listener needs --tls-cert, --tls-key, and --tls-client-ca or --enroll-role: give them',
  ],
  [
    ['enrollRole'],
    s => s.enrollRole.length > 0 && s.authorityKey === null,
    '--enroll-role needs a key that protects the authority of the hosts: set EC2_IPAM_AUTHORITY_KEY_FILE to a file ' +
      'that all servers of the ledger have, such as from openssl rand -base64 32',
  ],
  [
    ['enrollRole', 'listen'],
    s => s.enrollRole.length > 0 && !s.listen.some(a => a.kind === 'https'),
    '--enroll-role needs an https listener: hosts enrol there',
  ],
  [
    ['listen'],
    s => !s.allowUnauthenticated && s.listen.some(a => a.kind === 'http' && !isLoopback(a.host)),
    '--listen http beyond loopback gives every client on the network access to the pool: use https with ' +
      'client certificates, a unix socket, or --allow-unauthenticated in a closed network',
  ],
  [
    ['adminListen'],
    s => s.adminListen?.kind === 'http' && !isLoopback(s.adminListen.host),
    '--admin-listen http beyond loopback shows the network to everybody: use https with client certificates, ' +
      'a unix socket, or http on loopback',
  ],
  [
    ['adminListen'],
    s => s.adminListen?.kind === 'https' && !(s.tlsCert && s.tlsKey && s.tlsClientCa),
    '--admin-listen https needs --tls-cert, --tls-key and --tls-client-ca, since hosts that enrol are not served ' +
      'there: give them',
  ],
  [
    ['adminListen', 'listen'],
    s => s.listen.some(address => isSame(address, s.adminListen)),
    '--admin-listen is an address of --listen: give it one of its own',
  ],
  [
    ['warmMin', 'warmMax'],
    s => s.warmMin > s.warmMax,
    '--warm-min is more than --warm-max: give a --warm-max that is at least --warm-min',
  ],
  [
    ['intentGraceMs', 'callDeadlineMs'],
    s => s.intentGraceMs <= s.callDeadlineMs,
    '--intent-grace is not longer than --call-deadline: an intent could be taken over before its call is sent',
  ],
];

/** Whether two listeners would be one. Port 0 is another port each time. */
const isSame = (one: Address, other: Address | null): boolean =>
  one.kind === 'unix' || other === null || other.kind === 'unix'
    ? one.kind === 'unix' && other?.kind === 'unix' && resolve(one.path) === resolve(other.path)
    : one.port !== 0 && one.port === other.port && one.host === other.host;

const contradictions = (settings: Settings, uses: readonly SettingName[]): string[] =>
  RULES.filter(([names, broken]) => names.every(name => uses.includes(name)) && broken(settings)).map(
    ([, , complaint]) => complaint,
  );

/** EC2 refuses a call whose signature is 15 minutes old by its own clock, with RequestExpired. Our clock may be ahead
 *  by CLOCK_AHEAD_MS_MAX. So no call is applied later than this time after the call deadline.
 *  https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html */
const SIGNATURE_LIFE_MS = 900_000 + CLOCK_AHEAD_MS_MAX;

function unwise(settings: Settings, { flags, env }: Sources): string[] {
  const warnings: string[] = [];
  if (flags.get('store')?.some(hasPassword))
    warnings.push(
      `--store holds a password, which every user of this machine can read: use ${environmentName('store-password')}_FILE`,
    );
  if (settings.authorize === 'any' && settings.listen.some(({ kind }) => kind === 'https'))
    warnings.push(
      '--authorize any: every client with a certificate may use, and release, the addresses of every ENI',
    );
  if (settings.intentGraceMs < settings.callDeadlineMs + SIGNATURE_LIFE_MS)
    warnings.push(
      '--intent-grace is shorter than --call-deadline and the life of a signature (905s) together: only for tests with the simulator',
    );
  if (settings.witnessAgeMs < WITNESS_AGE_MS)
    warnings.push('--witness-age is shorter than 120s: only for tests');
  const known = new Set(
    settingNames.flatMap(name => {
      const variable = environmentName(SETTINGS[name].flag);
      return [variable, `${variable}_FILE`];
    }),
  );
  for (const name of Object.keys(env))
    if (name.startsWith('EC2_IPAM_') && !known.has(name))
      warnings.push(`${name} in the environment is no setting`);
  return warnings;
}

function listener(address: Address, settings: Settings): Listener {
  if (address.kind === 'unix') return { ...address, mode: settings.socketMode };
  if (address.kind === 'http') return address;
  const { tlsCert, tlsKey, tlsClientCa } = settings;
  return { ...address, tls: { cert: tlsCert ?? '', key: tlsKey ?? '', clientCa: tlsClientCa } };
}

/** The environment comes before the file here too. What neither has is found by the SDK. */
const awsSettings = (env: Facts['env'], file: AwsSettings): AwsSettings => ({
  region: env.AWS_REGION || env.AWS_DEFAULT_REGION || file.region,
  credentials: env.AWS_ACCESS_KEY_ID || env.AWS_PROFILE ? null : file.credentials,
});

function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null) Object.values(Object.freeze(value)).forEach(deepFreeze);
  return value;
}
