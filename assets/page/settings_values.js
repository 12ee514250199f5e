// What can be set for a conversation, under the names that the server knows; ranges are the server's.

export const kSliders = [
  {key: 'max_tokens', min: 16, max: 4096, step: 16, initial: 512},
  {key: 'temperature', min: 0, max: 2, step: 0.05, initial: 0.6},
  {key: 'top_p', min: 0.05, max: 1, step: 0.05, initial: 0.9},
  {key: 'repetition_penalty', min: 1, max: 2, step: 0.05, initial: 1.1},
];

export const defaultSettings = () => ({
  model: '', system: '', seed: null, ...Object.fromEntries(kSliders.map(slider => [slider.key, slider.initial])),
});

/** `settings` (from storage or an imported file) with everything that is missing or out of range replaced by its default. */
export function validSettings(settings) {
  const valid = defaultSettings();
  if (typeof settings?.model === 'string') valid.model = settings.model;
  if (typeof settings?.system === 'string') valid.system = settings.system;
  if (Number.isSafeInteger(settings?.seed) && settings.seed >= 0) valid.seed = settings.seed;
  for (const {key, min} of kSliders) {
    const max = key === 'max_tokens' ? Number.MAX_SAFE_INTEGER : kSliders.find(slider => slider.key === key).max;
    if (typeof settings?.[key] === 'number' && settings[key] >= min && settings[key] <= max) valid[key] = settings[key];
  }
  return valid;
}

/** The request's fields for these settings. */
export function requestFields(settings) {
  const fields = Object.fromEntries(kSliders.map(({key}) => [key, settings[key]]));
  if (settings.seed !== null) fields.seed = settings.seed;
  return {model: settings.model, ...fields};
}
