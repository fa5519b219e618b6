/** Reads the configuration file. */
import { hasPassword } from '../../domain/text.ts';
import { jsonKey, SETTINGS, type Setting, settingNames } from './settings.ts';

export interface AwsSettings {
  /** Null: the SDK finds it. */
  readonly region: string | null;
  readonly credentials: { readonly accessKeyId: string; readonly secretAccessKey: string } | null;
}

/** A configuration file: the text of each setting by its flag, and the place for error messages. */
export interface ConfigFile {
  readonly values: ReadonlyMap<string, { readonly place: string; readonly texts: readonly string[] }>;
  readonly aws: AwsSettings;
  readonly warnings: readonly string[];
  /** Whether it has a password or a key. */
  readonly hasSecrets: boolean;
}
type Json = Readonly<Record<string, unknown>>;
type Values = Map<string, { place: string; texts: string[] }>;

// The configuration of the ancestor (bearice/ec2-ipam) has the objects `mysql` and `aws` with these keys.
const MYSQL_KEYS = ['host', 'port', 'user', 'password', 'database'];
const AWS_KEYS = ['region', 'accessKeyId', 'secretAccessKey'];

/** Reads a JSON file of this program or of the ancestor, or a mixture. Complaints name the key and the file. */
export function parseConfigFile(text: string, path: string): ConfigFile & { complaints: string[] } {
  const complaints: string[] = [];
  const warnings: string[] = [];
  const values: Values = new Map();
  const { mysql, aws, ...ours } = parseObject(text, path, complaints);
  for (const [key, value] of Object.entries(ours)) {
    const place = `${key} in ${path}`;
    const setting = settingOf(key);
    const texts = setting && textsOf(setting, value);
    if (setting === undefined) complaints.push(`${place} is no setting${suggestion(key)}`);
    else if (texts === null)
      complaints.push(`${place} is not what is accepted: give ${setting.kind.accepts}`);
    else values.set(setting.flag, { place, texts: texts ?? [] });
  }
  if (mysql !== undefined) ancestorsStore(mysql, path, { values, warnings, complaints });
  const keys = ancestorsAws(aws, path, complaints);
  const hasSecrets =
    keys.credentials !== null ||
    values.has('store-password') ||
    (values.get('store')?.texts.some(hasPassword) ?? false);
  return { values, aws: keys, warnings, complaints, hasSecrets };
}

function parseObject(text: string, path: string, complaints: string[]): Json {
  try {
    const value: unknown = JSON.parse(text);
    if (isObject(value)) return value;
    complaints.push(`${path} is not a JSON object: give settings as { "warmMin": 2 }`);
  } catch {
    // The message of JSON.parse may quote the file, and so a password.
    complaints.push(`${path} is not JSON: give settings as { "warmMin": 2 }`);
  }
  return {};
}

const isObject = (value: unknown): value is Json =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

// A configuration file cannot name another one, and a secret has its own file.
function settingOf(key: string): Setting<unknown> | undefined {
  const settings: Setting<unknown>[] = settingNames.map(name => SETTINGS[name]);
  return settings.find(one => jsonKey(one.flag) === key && one.shape !== 'secret' && one.flag !== 'config');
}

function textsOf(setting: Setting<unknown>, value: unknown): string[] | null {
  if (Array.isArray(value)) return setting.shape === 'list' ? value.map(String) : null;
  return ['string', 'number', 'boolean'].includes(typeof value) ? [String(value)] : null;
}

const suggestion = (key: string): string =>
  key === 'storePassword'
    ? ': put it into the environment or a file of its own (EC2_IPAM_STORE_PASSWORD_FILE)'
    : ': keys are the flags in camelCase, as --help lists them';

interface Found {
  values: Values;
  warnings: string[];
  complaints: string[];
}

function ancestorsStore(mysql: unknown, path: string, { values, warnings, complaints }: Found): void {
  const place = `mysql in ${path}`;
  const known = checkedObject(mysql, place, MYSQL_KEYS, complaints);
  if (known === null) return;
  if (values.has('store')) {
    complaints.push(`store and mysql are both in ${path}: give one of them`);
    return;
  }
  const { host = 'localhost', port = '3306', user = '', password, database = '' } = known;
  const account = encodeURIComponent(user);
  values.set('store', {
    place,
    texts: [`mysql://${account}@${host}:${port}/${encodeURIComponent(database)}?ssl=off`],
  });
  if (password !== undefined && password !== '')
    values.set('store-password', { place: `mysql.password in ${path}`, texts: [password] });
  warnings.push(
    `${place} says nothing of TLS, so the store is reached without it (ssl=off): give "store" as mysql://…?ssl=on instead`,
  );
}

function ancestorsAws(aws: unknown, path: string, complaints: string[]): AwsSettings {
  const known = aws === undefined ? {} : checkedObject(aws, `aws in ${path}`, AWS_KEYS, complaints);
  const { region = null, accessKeyId, secretAccessKey } = known ?? {};
  if ((accessKeyId === undefined) !== (secretAccessKey === undefined))
    complaints.push(`aws in ${path} has half of a key: give both accessKeyId and secretAccessKey, or none`);
  const whole = accessKeyId !== undefined && secretAccessKey !== undefined;
  return { region, credentials: whole ? { accessKeyId, secretAccessKey } : null };
}

function checkedObject(
  value: unknown,
  place: string,
  keys: readonly string[],
  complaints: string[],
): Record<string, string> | null {
  if (!isObject(value)) {
    complaints.push(`${place} is not an object: give ${keys.join(', ')}`);
    return null;
  }
  const known: Record<string, string> = {};
  for (const [key, inner] of Object.entries(value)) {
    if (!keys.includes(key)) complaints.push(`${place}: ${key} is unknown: give ${keys.join(', ')}`);
    else if (typeof inner === 'string' || typeof inner === 'number') known[key] = String(inner);
    else complaints.push(`${place}: ${key} is not text`);
  }
  return known;
}
