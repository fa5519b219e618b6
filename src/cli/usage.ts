/** The texts of --help. */
import type { Command, Option, Options } from './command.ts';
import { environmentName, SETTINGS, type Setting } from './settings/settings.ts';

type Line = [left: string, right: string];

/** All commands, one in a line. */
export function overview(commands: readonly Command[]): string {
  return `usage: ec2-ipam COMMAND [ARGUMENT…]

${columns(commands.map(({ name, usage, summary }) => [`${name} ${usage}`.trim(), summary]))}
ec2-ipam COMMAND --help tells more; ec2-ipam --version tells the version.
`;
}

/** One command with its arguments, options and settings. */
export function usageOf(command: Command): string {
  const { name, usage, summary, options, settings, help } = command;
  const own = Object.entries(options as Options).map(([flag, option]) => optionLine(flag, option));
  const shared = settings.map(setting => settingLine(SETTINGS[setting], command.defaults?.[setting]));
  return [
    `usage: ${`ec2-ipam ${name} ${usage}`.trim()} [--FLAG…]\n\n${summary}\n`,
    own.length === 0 ? '' : `options:\n${columns(own)}`,
    shared.length === 0
      ? ''
      : `settings, by flag, environment variable (in brackets) or JSON file, in this order:\n${columns(shared)}`,
    help === undefined ? '' : `${help.trimEnd()}\n`,
  ]
    .filter(part => part !== '')
    .join('\n');
}

function optionLine(flag: string, { kind, fallback, help, bare }: Option<unknown>): Line {
  const isSwitch = kind.metavar === '';
  const tail = isSwitch || fallback === null ? '' : `; default ${fallback}`;
  const value = bare === undefined ? kind.metavar : `[${kind.metavar}]`;
  return [`--${flag}${isSwitch ? '' : ` ${value}`}`, help + tail];
}

function settingLine(
  { flag, kind, shape, fallback: ownFallback, help }: Setting<unknown>,
  ofCommand: string | undefined,
): Line {
  const name = environmentName(flag);
  if (shape === 'secret') return [`[${name}]`, `${help}; or [${name}_FILE], a file that holds it`];
  const fallback = ofCommand ?? ownFallback;
  const said = fallback === null || typeof fallback === 'string' ? fallback : fallback.said;
  const left = `--${flag}${kind.metavar === '' ? '' : ` ${kind.metavar}`}`;
  return [left, `${help}${said === null ? '' : `; default ${said}`} [${name}]`];
}

const LEFT_CHARACTERS_MAX = 34;

function columns(lines: readonly Line[]): string {
  const width = Math.min(LEFT_CHARACTERS_MAX, Math.max(...lines.map(([left]) => left.length)));
  return lines.map(([left, right]) => `  ${left.padEnd(width)}  ${right}\n`).join('');
}
