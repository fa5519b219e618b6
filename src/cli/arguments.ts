/** Splits the command line into flags and arguments, and suggests the word that was meant. */
import { parseArgs } from 'node:util';
import { IpamError } from '../domain/error.ts';
import { shown } from '../domain/text.ts';
import type { Command, Options } from './command.ts';
import { SETTINGS, type Setting } from './settings/settings.ts';
import { accept } from './settings/value-parsers.ts';

/** The arguments of a command, with values that are not parsed yet. */
export interface Given {
  /** By flag, in their order. A switch without a value is `on`. */
  readonly flags: ReadonlyMap<string, readonly string[]>;
  readonly args: readonly string[];
  readonly wantsHelp: boolean;
}

/** Splits the arguments after the command's name. Throws one bad-request with all complaints, one a line. */
export function sortArguments(command: Command, argv: readonly string[]): Given {
  const takesValue = flagsOf(command);
  const { tokens } = parseArgs({
    args: [...argv],
    options: Object.fromEntries(
      [...takesValue].map(([flag, takes]) => [flag, { type: takes ? 'string' : 'boolean' }] as const),
    ),
    allowPositionals: true,
    strict: false, // the messages of strict mode differ between runtimes
    tokens: true,
  });
  const flags = new Map<string, string[]>();
  const args: string[] = [];
  const complaints: string[] = [];
  let wantsHelp = false;
  /** A flag that may stand alone, and where it stands. */
  let bare: { name: string; index: number } | null = null;
  for (const token of tokens) {
    if (token.kind === 'positional') {
      const isItsValue = bare?.index === token.index - 1 && accepts(command, bare.name, token.value);
      if (isItsValue && bare !== null) flags.set(bare.name, [token.value]);
      else args.push(token.value);
    }
    if (token.kind !== 'option') continue;
    const { name, rawName, value, inlineValue } = token;
    if (name === 'help' || rawName === '-h') wantsHelp = true;
    else if (!takesValue.has(name) || !rawName.startsWith('--'))
      complaints.push(unknownFlag(command, rawName, [...takesValue.keys()]));
    else if (takesValue.get(name) && (value === undefined || (!inlineValue && value.startsWith('--'))))
      complaints.push(`--${name} needs a value: give ${kindOf(command, name)?.accepts}`);
    else {
      const alone = valueAlone(command, name);
      if (alone !== undefined && value === undefined) bare = { name, index: token.index };
      flags.set(name, [...(flags.get(name) ?? []), value ?? alone ?? 'on']);
    }
  }
  if (wantsHelp) return { flags, args, wantsHelp };
  // The value of an unknown flag counts as an argument, so that only the flag is reported.
  if (complaints.length === 0) complaints.push(...miscounted(command, args));
  if (complaints.length > 0) throw new IpamError('bad-request', complaints.join('\n'));
  return { flags, args, wantsHelp };
}

const accepts = (command: Command, flag: string, value: string): boolean =>
  kindOf(command, flag)?.parse(value) !== undefined;

/** The value of a flag that may stand alone; undefined: it takes none behind it, or needs one. A setting is never beside
 *  an argument that reads as on or off, so that it may be given as in a file. */
function valueAlone(command: Command, flag: string): string | undefined {
  const isSwitch = settingsOf(command).some(one => one.flag === flag && one.kind.metavar === '');
  return command.options[flag]?.bare ?? (isSwitch ? 'on' : undefined);
}

/** Parses the values of the command's own options. Adds to `complaints`. */
export function optionValues(
  options: Options,
  flags: Given['flags'],
  complaints: string[],
): Record<string, unknown> {
  const values: Record<string, unknown> = {};
  for (const [flag, { kind, fallback }] of Object.entries(options)) {
    const text = flags.get(flag)?.at(-1) ?? fallback;
    values[flag] = null;
    if (text === null) continue;
    const answer = accept(kind, text);
    if ('value' in answer) values[flag] = answer.value;
    else complaints.push(`--${flag} ${answer.complaint}`);
  }
  return values;
}

const settingsOf = (command: Command): Setting<unknown>[] =>
  command.settings.map(name => SETTINGS[name]).filter(({ shape }) => shape !== 'secret');

/** All flags of the command, and whether each needs a value. */
function flagsOf(command: Command): Map<string, boolean> {
  const flags = new Map<string, boolean>();
  for (const { flag, kind } of settingsOf(command)) flags.set(flag, kind.metavar !== '');
  for (const [flag, { kind, bare }] of Object.entries(command.options))
    flags.set(flag, kind.metavar !== '' && bare === undefined);
  return flags;
}

const kindOf = (command: Command, flag: string) =>
  command.options[flag]?.kind ?? settingsOf(command).find(setting => setting.flag === flag)?.kind;

function unknownFlag(command: Command, rawName: string, known: readonly string[]): string {
  const close = nearest(rawName.replace(/^-+/, ''), known);
  const hint = close === null ? `see ec2-ipam ${command.name} --help` : `did you mean --${close}?`;
  return `${command.name} has no ${shown(rawName)}: ${hint}`;
}

function miscounted({ name, usage, args: { min, max } }: Command, args: readonly string[]): string[] {
  const call = `ec2-ipam ${name} ${usage}`.trim();
  if (args.length < min) return [`${name} needs more arguments: ${call}`];
  if (args.length <= max) return [];
  return [
    max === 0
      ? `${name} takes no argument, but "${shown(args[0] ?? '')}" was given`
      : `${name} takes at most ${max} arguments: ${call}`,
  ];
}

const DISTANCE_MAX = 2;

/** Returns the known word that is closest to a misspelled one; null when none is close. */
export function nearest(given: string, known: readonly string[]): string | null {
  const ranked = known
    .map(word => ({ word, distance: distance(given, word) }))
    .filter(one => one.distance <= DISTANCE_MAX || (given.length >= 3 && one.word.startsWith(given)))
    .sort((a, b) => a.distance - b.distance);
  return ranked[0]?.word ?? null;
}

/** The Levenshtein distance. */
function distance(a: string, b: string): number {
  let before = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const change = (before[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      row.push(Math.min(change, (before[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1));
    }
    before = row;
  }
  return before[b.length] ?? 0;
}
