/** The id of a call. It is in each log line of the call, and in the error that the docker user sees. */
import { randomUUID } from 'node:crypto';
import type { Context } from 'hono';
import type { Log } from '../domain/log.ts';
import type { Env } from './answer.ts';

/** What a user sees of an id. The server's own ids have no more. */
const SHOWN_CHARACTERS = 8;

/** Gives the call an id that another program knows it by. */
export const nameCall = (c: Context<Env>, id: string): void => c.set('callId', id);

/** Returns the id of the call. Without a name it is one of the server's own, made when it is first needed. */
export function callId(c: Context<Env>): string {
  const id = c.get('callId') ?? randomUUID().slice(0, SHOWN_CHARACTERS);
  nameCall(c, id);
  return id;
}

/** Returns a log whose lines have the id of the call. */
export const logOf =
  (c: Context<Env>, log: Log): Log =>
  (level, message, fields) =>
    log(level, message, { ...fields, request: callId(c) });

/** Returns the line of an error with the id of the call, in its short form. An agent may have it from a server. */
export function withId(c: Context<Env>, line: string): string {
  const shown = ` (request ${callId(c).slice(0, SHOWN_CHARACTERS)})`;
  return line.endsWith(shown) ? line : `${line}${shown}`;
}
