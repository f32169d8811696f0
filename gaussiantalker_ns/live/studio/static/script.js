// The text that is read while recording: about a minute, with all sounds of English and some calm.

export const SCRIPT = [
  "Hello. I am reading this aloud, so that a model of my head can learn how I speak. I look into the camera, and I take my time.",
  "My neighbour Ruth owns a small boat with a bright blue sail. Every Thursday, if the weather is fair, she leaves the harbour before five and fishes near the rocks.",
  "Once she brought back a jar of yellow shells and asked what I would pay for them. I thought about it. Perhaps two apples, a cup of warm tea, and the joy of good company?",
  "She laughed, and we shook hands. Now the shells are in my kitchen, between the bread box and a very large map of the moon.",
  "Some numbers, for the sound of them: thirteen, forty-seven, five hundred and sixty, nine thousand and eight.",
  "And a few words that are fun to say: bubble, mushroom, whisper, vision, toothbrush, job, guava, oxygen.",
  "Now I close my lips and wait for a moment. Then I smile, turn my head a little to the left, a little to the right, and say goodbye.",
];
