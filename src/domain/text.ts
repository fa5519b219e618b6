/** Text from outside (Docker, EC2, operators), made safe for the ledger, for an error, and for a terminal. */

// Control characters, halves of surrogate pairs, line separators, and marks that turn the direction of text.
const UNSAFE = String.raw`\p{Cc}\p{Cs}\p{Zl}\p{Zp}\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff`;
const UNSAFE_RUN = new RegExp(`[${UNSAFE}]+`, 'gu');
const UNSAFE_BUT_NEWLINE = new RegExp(String.raw`(?!\n)[${UNSAFE}]`, 'gu');

/** The longest part of a value that an error quotes. */
const SHOWN_CHARACTERS_MAX = 64;

/** Returns the text with a space for each run of unsafe characters, cut at `charactersMax`. */
export const cleaned = (text: string, charactersMax: number): string =>
  text.slice(0, charactersMax).replace(UNSAFE_RUN, ' ');

/** Returns a value as an error quotes it. */
export const shown = (text: string): string => cleaned(text, SHOWN_CHARACTERS_MAX);

/** Returns the text with `\u001b` and the like for unsafe characters other than the end of a line. In JSON it is the
 *  same value. */
export const escaped = (text: string): string =>
  text.replace(UNSAFE_BUT_NEWLINE, one => `\\u${one.charCodeAt(0).toString(16).padStart(4, '0')}`);

const PASSWORD_IN_URL = /(\w:\/\/[^\s:]*:)\S*@/;

/** Whether there is a URL with a password in the text. */
export const hasPassword = (text: string): boolean => PASSWORD_IN_URL.test(text);

/** Returns the text with `***` for the password of each URL, up to the last `@`: a password that was not
 *  percent-encoded may have one in it. */
export const masked = (text: string): string => text.replace(new RegExp(PASSWORD_IN_URL, 'g'), '$1***@');
