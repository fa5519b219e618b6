/** Which settings a command uses. */
import { type SettingName, settingNames } from './settings.ts';

const LOG_AND_FILE = ['config', 'logFormat', 'logLevel'] as const satisfies readonly SettingName[];
/** Of commands that work in the store only. */
export const STORE_SETTINGS: readonly SettingName[] = [...LOG_AND_FILE, 'stateDir', 'store', 'storePassword'];
/** Of commands that ask EC2 too. */
export const LEDGER_SETTINGS: readonly SettingName[] = [
  ...STORE_SETTINGS,
  'callDeadlineMs',
  'intentGraceMs',
  'cooldownMs',
  'quarantineMs',
];
export const SERVE_SETTINGS: readonly SettingName[] = settingNames;
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
