// Writes the generated parts of src/cli/README.md from the tables that `--help` is made of: `npm run docs`.
// test/repository/cli-page.test.ts fails when they are stale.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { COMMANDS } from '../src/cli/cli.ts';
import type { Command, Options } from '../src/cli/command.ts';
import {
  environmentName,
  jsonKey,
  SETTINGS,
  type Setting,
  settingNames,
} from '../src/cli/settings/settings.ts';
import { ROOT } from './tiers.ts';

export const CLI_PAGE = 'src/cli/README.md';

/** The page with its generated parts as the tables say: what stands between `<!-- generated: NAME -->` and
 *  `<!-- end -->`. */
export function withGeneratedParts(page: string): string {
  const parts: Record<string, string> = {
    settings: settingsTable(),
    index: table(
      ['command', 'does'],
      COMMANDS.map(one => [`[${code(one.name)}](#${anchorOf(titleOf(one))})`, one.summary]),
    ),
    commands: COMMANDS.map(sectionOf).join('\n'),
  };
  return page.replace(
    /(<!-- generated: (\w+) -->\n).*?(<!-- end -->)/gs,
    (_, start: string, name: string, end: string) => `${start}${parts[name] ?? ''}${end}`,
  );
}

function settingsTable(): string {
  return table(
    ['flag', 'environment', 'JSON key', 'default', 'accepts', 'meaning'],
    settingNames.map(name => {
      const { flag, shape, kind, fallback, help }: Setting<unknown> = SETTINGS[name];
      const isSecret = shape === 'secret';
      return [
        isSecret ? '–' : code(`--${flag}`),
        code(environmentName(flag)) + (isSecret ? ` or ${code(`${environmentName(flag)}_FILE`)}` : ''),
        isSecret || name === 'config' ? '–' : code(jsonKey(flag)),
        typeof fallback === 'string' ? code(fallback) : (fallback?.said ?? 'none'),
        kind.accepts,
        help,
      ];
    }),
  );
}

const titleOf = ({ name, usage }: Command): string => `${name} ${usage}`.trim();
/** As GitHub makes it of a heading. */
const anchorOf = (title: string): string =>
  title
    .toLowerCase()
    .replace(/[^\p{L}\w -]/gu, '')
    .replaceAll(' ', '-');

function sectionOf(command: Command): string {
  const { summary, options, settings, defaults, help } = command;
  const rows = Object.entries(options as Options).map(([flag, { kind, fallback, help: meaning }]) => [
    code(`--${flag}`),
    fallback === null ? 'none' : code(fallback),
    kind.metavar === '' ? 'a switch' : kind.accepts,
    meaning,
  ]);
  const taken = settings.map(setting => {
    const own = defaults?.[setting];
    const { flag, shape }: Setting<unknown> = SETTINGS[setting];
    const named = shape === 'secret' ? environmentName(flag) : `--${flag}`;
    return code(named) + (own === undefined ? '' : ` (default here ${code(own)})`);
  });
  const all = settings.length === settingNames.length ? 'all' : taken.join(', ');
  return [
    `### ${titleOf(command)}\n`,
    `${summary[0]?.toUpperCase()}${summary.slice(1)}.\n`,
    rows.length === 0 ? '' : table(['option', 'default', 'accepts', 'meaning'], rows),
    `Settings: ${all}.\n`,
    help === undefined ? '' : `\`\`\`text\n${help.trimEnd()}\n\`\`\`\n`,
  ]
    .filter(part => part !== '')
    .join('\n');
}

const code = (text: string): string => `\`${text}\``;
const line = (cells: readonly string[]): string =>
  `| ${cells.map(cell => cell.replaceAll('|', '\\|')).join(' | ')} |\n`;
const table = (head: readonly string[], rows: readonly (readonly string[])[]): string =>
  line(head) + line(head.map(() => '---')) + rows.map(line).join('');

if (import.meta.main) {
  const path = join(ROOT, CLI_PAGE);
  writeFileSync(path, withGeneratedParts(readFileSync(path, 'utf8')));
}
